"""Changes of a config: from the command line, by place, and by shorthand."""

import inspect
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attendgen.config.instantiate import get_first_line
from attendgen.config.keys import iterate_keys, suggest_key
from attendgen.config.literals import expand_home
from attendgen.config.paths import get_path_fields, make_declared_paths_absolute
from attendgen.config.trust import OWN_FIELD
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.files import exists
from attendgen.utils.resources import bundled_models

# files and folders in a config: on a command line they are relative to the working directory
PATHS = ("data.root", "data.train", "data.val", "data.test", "data.cache", "paths.cache", "paths.data")

# settings that a group takes by reference: a run that was saved before one existed gets it and the reference
SHARED = {"metrics.tokenize": "task.tokenize"}

PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}


def override_config(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return a copy of a saved config with `key=value` changes.

    Raises:
        UserError: a change is not of that form, or the key does not exist.
    """
    config = config.copy()
    OmegaConf.set_struct(config, True)
    for override in overrides:
        _apply(config, override)
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(
            f"{format_some(overrides)}: {get_first_line(error)}; refer to fields of the config, as ${{seed}}"
        ) from error
    changed = [override.partition("=")[0] for override in overrides]
    for key in changed:
        if key == "data.root" or (key in PATHS and "data.root" not in changed) or _is_declared(config, key):
            files = OmegaConf.select(config, key)
            names = list(files) if isinstance(files, ListConfig) else [] if files is None else [files]
            if not all(isinstance(name, str) for name in names):
                raise UserError(f"{key}={files}: expected a file, or a list of files")
            paths = [str(Path(name).absolute()) for name in names]
            OmegaConf.update(config, key, paths[0] if isinstance(files, str) else paths or None, merge=False)
    return config


def _is_declared(config: DictConfig, key: str) -> bool:
    """Return whether the class that takes a field declares it as a file or a folder."""
    group, _, name = key.rpartition(".")
    settings = OmegaConf.select(config, group) if group else None
    return isinstance(settings, DictConfig) and key not in PATHS and name in get_path_fields(settings.get("_target_"))


def _apply(config: DictConfig, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override}: expected key=value")
    if isinstance(OmegaConf.select(config, key), DictConfig) and not value.startswith(("{", "[")):
        raise UserError(f"{override}: {key} is a group of fields; change one of them, as {key}.NAME=VALUE")
    _expand_references(config, key)
    if key in SHARED and OmegaConf.select(config, key) is None and _is_parameter(config, SHARED[key]):
        OmegaConf.update(config, key, None, force_add=True)
        OmegaConf.update(config, SHARED[key], f"${{{key}}}", force_add=True)
    if _is_parameter(config, key):
        OmegaConf.update(config, key, None, force_add=True)
    try:
        if _is_literal(config, key, value):
            OmegaConf.update(config, key, expand_home(value))
        else:
            config.merge_with_dotlist([override])
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        if OmegaConf.select(config, key) is not None:
            raise UserError(f"{override}: not a value ({reason}); put quotes around a text: {key}='...'") from error
        hint = suggest_key(key, iterate_keys(config)) or "; its config.yaml has them all"
        raise UserError(f"{key}: no such field in the run's config{hint}") from error


def _is_literal(config: DictConfig, key: str, value: str) -> bool:
    """Return whether a value is a file or a folder as it is written, and no list, reference or null."""
    if value in ("", "null") or value.startswith(("[", "{", "'", '"')) or "${" in value:
        return False
    return key in PATHS or _is_declared(config, key)


def _expand_references(config: DictConfig, key: str) -> None:
    """Turn a group that refers to another, at a key or above it, into one that refers field by field."""
    group: Any = config
    for name in key.split("."):
        if not isinstance(group, DictConfig) or name not in group:
            return
        inner = group[name]
        if OmegaConf.is_interpolation(group, name) and isinstance(inner, DictConfig):
            raw: Any = OmegaConf.to_container(group, resolve=False)
            if OWN_FIELD.fullmatch(raw[name]):
                begin = raw[name].removesuffix("}")
                fields = {str(field): f"{begin}.{field!s}}}" for field in inner}
                if "_target_" in inner:  # a saved config names its classes
                    fields["_target_"] = inner["_target_"]
                group[name] = fields
            else:
                group[name] = OmegaConf.to_container(inner, resolve=True)
        group = group[name]


def _is_parameter(config: DictConfig, key: str) -> bool:
    """Return whether a group lacks this field but its target takes it: the field is newer than the run."""
    group, _, name = key.rpartition(".")
    settings = OmegaConf.select(config, group) if group else None
    if not isinstance(settings, DictConfig) or "_target_" not in settings or name in settings:
        return False
    try:
        target = get_object(settings["_target_"])
    except Exception:  # the target is reported when it is made
        return False
    kinds = target.__mro__ if isinstance(target, type) else (target,)
    functions = [vars(kind).get("__init__", None) if isinstance(kind, type) else kind for kind in kinds]
    return any(name in inspect.signature(function).parameters for function in functions if inspect.isroutine(function))


def make_paths_absolute(config: DictConfig) -> None:
    """Make the paths in a config independent of the working directory, so that the run can be used from anywhere.

    A `~` at the beginning is the home folder, also of a path that a config file names.
    """
    for key in (*PATHS, "paths.outputs", "init_from"):
        _expand_home(config, key)
    name = config.get("init_from")
    if name and exists(name) and (name not in bundled_models() or exists(Path(name, "config.yaml"))):
        config.init_from = str(Path(name).absolute())  # not the name of a bundled model, or a run of this name hides it
    if isinstance(config.data.get("root"), str) and not OmegaConf.is_interpolation(config.data, "root"):
        config.data.root = str(Path(config.data.root).absolute())
    for group in ("data", "model", "task"):
        make_declared_paths_absolute(config[group])
    for key in ("data", "cache", "outputs", "run"):
        config.paths[key] = str(Path(config.paths[key]).absolute())


def _expand_home(config: DictConfig, key: str) -> None:
    """Expand `~` in a path, or in a list of paths, that is written out."""
    group, _, name = key.rpartition(".")
    settings = OmegaConf.select(config, group) if group else config
    if not isinstance(settings, DictConfig) or name not in settings or OmegaConf.is_interpolation(settings, name):
        return
    value = settings[name]
    if isinstance(value, str):
        settings[name] = expand_home(value)
    elif isinstance(value, ListConfig):
        settings[name] = [expand_home(part) if isinstance(part, str) else part for part in value]


def expand_profiler(config: DictConfig) -> None:
    """Let a profiler that is given by name write into the run directory.

    Raises:
        UserError: there is no such profiler.
    """
    name = config.trainer.get("profiler")
    if not isinstance(name, str):
        return
    if name not in PROFILERS:
        raise UserError(f"trainer.profiler={name}: unknown; choose one of {', '.join(PROFILERS)}")
    config.trainer.profiler = {
        "_target_": f"lightning.pytorch.profilers.{PROFILERS[name]}",
        "dirpath": "${paths.run}/profiler",
        "filename": name,
    }
