"""Files and folders in a config that classes of the user's own declare."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf


def get_path_fields(target: object) -> set[str]:
    """Return the fields of a class or function, by its name, that hold a file or a folder.

    These are the names in the class's `path_fields`, and the parameters that are annotated as `Path`.
    """
    if not target:  # a group of settings that make nothing; Hydra would log that "None" is not found
        return set()
    try:
        found = get_object(str(target))
        parameters = inspect.signature(found).parameters.values()
    except Exception:  # what does not exist is reported when it is made
        return set()
    annotated = {parameter.name for parameter in parameters if _is_path(parameter.annotation)}
    return annotated | set(getattr(found, "path_fields", ()))


def _is_path(annotation: object) -> bool:
    if isinstance(annotation, str):  # of a module with `from __future__ import annotations`
        return re.search(r"\bPath\b", annotation) is not None
    return annotation is Path or Path in get_args(annotation)


def make_declared_paths_absolute(config: DictConfig | ListConfig) -> None:
    """Make the declared files and folders in and below a config absolute; a reference to another field stays."""
    if isinstance(config, DictConfig) and "_target_" in config:
        for field in get_path_fields(config["_target_"]) & set(map(str, config)):
            if isinstance(config[field], str) and not OmegaConf.is_interpolation(config, field):
                config[field] = str(Path(config[field]).absolute())
    for part in _iterate_parts(config):
        make_declared_paths_absolute(part)


def _iterate_parts(config: Any) -> Iterator[Any]:
    """Yield the configs right below a config that are its own, not another field's."""
    keys: list[Any] = list(config) if isinstance(config, DictConfig) else list(range(len(config)))
    for key in keys:
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig | ListConfig):
            yield config[key]
