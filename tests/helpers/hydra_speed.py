"""Let Hydra compose the configs of trainings faster in tests, with the same result."""

import functools
import pickle
from typing import Any, TextIO

import omegaconf.base
import yaml
from hydra._internal import defaults_list
from hydra._internal.core_plugins import file_config_source
from hydra._internal.hydra import Hydra
from omegaconf import Container, DictConfig, OmegaConf

# what may say that a command is a sweep: these arguments, and the folders that configs are read from
DECIDING = ("sweep=", "hydra.mode", "hydra/", "experiment", "local")


def compose_faster() -> None:
    """Read each text of YAML once, with libyaml, parse each reference `${...}` once, and compose each config once."""
    yaml.SafeLoader = yaml.CSafeLoader
    file_config_source.OmegaConf = RememberedOmegaConf
    omegaconf.base.parse = omegaconf._utils.parse = functools.lru_cache(maxsize=None)(omegaconf.base.parse)
    ask_once()
    map_if_needed()


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


class RememberedOmegaConf(OmegaConf):
    """OmegaConf that parses a text of YAML once."""

    parsed: dict[str, bytes] = {}  # noqa: RUF012  # shared by all

    @staticmethod
    def load(file_: TextIO) -> Container:
        """Return a config of its own for the text of a file."""
        text = file_.read()
        if text not in RememberedOmegaConf.parsed:
            file_.seek(0)
            RememberedOmegaConf.parsed[text] = pickle.dumps(OmegaConf.load(file_))
        return pickle.loads(RememberedOmegaConf.parsed[text])  # pickled above
