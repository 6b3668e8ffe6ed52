"""The fields of a config, to correct misspelt ones."""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from attendgen.utils.errors import UserError


def iterate_keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the fields of a config and of the groups below it, as `model.hidden`."""
    for name in map(str, config):
        yield prefix + name
        if OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, name):
            continue
        if isinstance(config[name], DictConfig):
            yield from iterate_keys(config[name], f"{prefix}{name}.")


def suggest_key(key: str, keys: Iterable[str]) -> str:
    """Return "; did you mean KEY?" for the most similar key, or nothing if none is similar."""
    known = list(keys)
    found = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if not found:  # the field may belong to another group
        name = key.rpartition(".")[2]
        found = [other for other in known if other.rpartition(".")[2] == name][:1]
    return f"; did you mean {found[0]}?" if found else ""


def refuse_dotted_groups(arguments: Iterable[str], folder: Path) -> None:
    """Check that a part of a config is chosen as `model/attention=dot`, not as `model.attention=dot`.

    Args:
        folder: of the configs.

    Raises:
        UserError: an argument has a dot.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        group = key.lstrip("+").replace(".", "/")
        is_name = re.fullmatch(r"(?!null$)[A-Za-z]\w*", value)
        if is_name and "/" in group and "/" not in key and (folder / group).is_dir():
            raise UserError(f"{argument}: {key} is a group; choose one of its configs with {group}={value}")
