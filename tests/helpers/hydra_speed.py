"""Let Hydra compose the configs of trainings faster in tests, with the same result."""

import copy
import functools
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hydra.version
import omegaconf.base
import yaml
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

# what may say that a command is a sweep: these arguments, and the folders that configs are read from
DECIDING = ("sweep=", "hydra.mode", "hydra/", "experiment", "local")


def compose_faster() -> None:
    """Read each file once, with libyaml, parse each reference `${...}` once, and merge the same files once."""
    yaml.SafeLoader = yaml.CSafeLoader
    hydra.version._get_version = functools.cache(hydra.version._get_version)
    omegaconf.base.parse = omegaconf._utils.parse = functools.lru_cache(maxsize=None)(omegaconf.base.parse)
    ask_once()
    map_if_needed()
    share_sources()
    load_once()
    choose_once()
    merge_once()


def ask_once() -> None:
    """Let Hydra learn once for similar commands whether they are sweeps; it composes each config twice for that."""
    ask = Hydra.get_mode
    known: dict[tuple[str, ...], Any] = {}

    def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        folders = [source.path for source in self.config_loader.get_sources()]
        key = (*folders, *(text for text in overrides if text.lstrip("+~").startswith(DECIDING)))
        if key not in known:
            known[key] = ask(self, config_name, overrides)
        return known[key]

    Hydra.get_mode = get_mode


def map_if_needed() -> None:
    """Let Hydra map what references in a list of defaults may name only where there are some."""
    make_map = defaults_list._create_interpolation_map

    def make_needed_map(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
        is_needed = any(default.is_interpolation() for default in defaults)
        return make_map(overrides, defaults, self_added) if is_needed else DictConfig({})

    defaults_list._create_interpolation_map = make_needed_map


def share_sources() -> None:
    """Let repositories of configs share their sources, which they replace but never change, without a deep copy."""

    def make(self: CachingConfigRepository, delegate: ConfigRepository) -> None:
        self.delegate, self.cache = copy.copy(delegate), {}

    CachingConfigRepository.__init__ = make


def load_once() -> None:
    """Let Hydra read a file once."""
    load = ConfigRepository.load_config
    known: dict[tuple[Any, ...], bytes] = {}

    def load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file":
            return load(self, config_path)
        path = os.path.join(source.path, source._normalize_file_name(config_path))
        key = (source.path, source.provider, config_path, *stamp_file(os.stat(path)))
        if key not in known:
            known[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(known[key])  # pickled above

    ConfigRepository.load_config = load_config


def choose_once() -> None:
    """Let Hydra find the files of a config once for the same choices of groups; it applies other overrides later."""
    make_list = config_loader_impl.create_defaults_list
    known: dict[tuple[Any, ...], defaults_list.DefaultsList] = {}

    def create_defaults_list(repo: Any, config_name: str | None, overrides_list: list[Any], **options: bool) -> Any:
        overrides = defaults_list.Overrides(repo, overrides_list)
        choices = (overrides.override_choices, overrides.append_group_defaults, overrides.deletions)
        key = (*stamp_sources(repo), config_name, repr(choices), *options.items())
        if key not in known:
            known[key] = make_list(repo, config_name, overrides_list, **options)
        return replace(known[key], config_overrides=overrides.config_overrides)

    config_loader_impl.create_defaults_list = create_defaults_list


def merge_once() -> None:
    """Let Hydra merge the same files once."""
    merge = ConfigLoaderImpl._compose_config_from_defaults_list
    known: dict[tuple[Any, ...], bytes] = {}

    def compose(self: ConfigLoaderImpl, defaults: list[Any], repo: Any) -> DictConfig:
        key = (*stamp_sources(repo), repr(defaults))
        if key not in known:
            known[key] = pickle.dumps(merge(self, defaults, repo))
        return pickle.loads(known[key])  # pickled above

    ConfigLoaderImpl._compose_config_from_defaults_list = compose


def stamp_sources(repo: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the folders that configs are read from, and what changes when a file in them does."""
    for source in repo.get_sources():
        yield source.full_path(), source.provider
        if source.scheme() == "file":
            yield from stamp_files(source.path)


def stamp_files(folder: str) -> Iterator[tuple[Any, ...]]:
    """Yield what changes when a file below a folder does."""
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        yield entry.path, *stamp_file(entry.stat())
        if entry.is_dir():
            yield from stamp_files(entry.path)


def stamp_file(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file does."""
    return status.st_ino, status.st_size, status.st_mtime_ns
