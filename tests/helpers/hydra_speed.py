"""Let Hydra compose the configs of trainings faster in tests, with the same result."""

import functools
import pickle
from typing import Any, TextIO

import omegaconf.base
import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.hydra import Hydra
from omegaconf import Container, OmegaConf

# what may say that a command is a sweep: these arguments, and the folders that configs are read from
DECIDING = ("sweep=", "hydra.mode", "hydra/", "experiment", "local")


def compose_faster() -> None:
    """Read YAML with libyaml and each text once, parse each reference once, and compose each config once.

    OmegaConf reads YAML and references, `${...}`, with parsers in Python. Hydra composes each config twice, the first
    time only to learn whether the command is a sweep; the answer is kept for commands that agree in what decides it.
    """
    yaml.SafeLoader = yaml.CSafeLoader
    ask = Hydra.get_mode
    known: dict[tuple[str, ...], Any] = {}

    def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        folders = [source.path for source in self.config_loader.get_sources()]
        key = (*folders, *(text for text in overrides if text.lstrip("+~").startswith(DECIDING)))
        if key not in known:
            known[key] = ask(self, config_name, overrides)
        return known[key]

    Hydra.get_mode = get_mode
    file_config_source.OmegaConf = RememberedOmegaConf
    omegaconf.base.parse = omegaconf._utils.parse = functools.lru_cache(maxsize=None)(omegaconf.base.parse)


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
