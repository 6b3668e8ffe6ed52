"""The fields of a config, to correct misspelt ones."""

import difflib
from collections.abc import Iterable, Iterator

from omegaconf import DictConfig, OmegaConf


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
