"""Saved configs: plain data whose references to its own fields stay in place."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attendgen.config.instantiate import get_first_line
from attendgen.config.resolvers import register_resolvers
from attendgen.config.trust import OWN_FIELD, require_trusted
from attendgen.utils.errors import UserError

GROUPS = ("data", "model", "task")  # of every run's config, also of a bundled model


def to_plain_dict(config: DictConfig) -> dict[str, Any]:
    """Return a config as plain data with its interpolations resolved."""
    data = OmegaConf.to_container(config, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def record_config(config: DictConfig, kept: re.Pattern[str] = OWN_FIELD) -> dict[str, Any]:
    """Return a config as plain data in which references to other fields stay, so that they follow later changes.

    What depends on the machine or the moment, such as Hydra's folder or an environment variable, is resolved.

    Args:
        kept: finds the references that stay.
    """

    def choose(raw: Any, resolved: Any) -> Any:
        if isinstance(raw, str) and "${" in raw:
            return resolved if "${" in kept.sub("", raw) else raw
        if isinstance(raw, dict):
            return {str(key): choose(value, resolved[key]) for key, value in raw.items()}
        if isinstance(raw, list):
            return [choose(*pair) for pair in zip(raw, resolved, strict=True)]
        return resolved

    return choose(OmegaConf.to_container(config, resolve=False), to_plain_dict(config))


def read_config(data: Any, source: Path) -> DictConfig:
    """Return the config of a saved run, checked to instantiate nothing but what `trust` allows.

    Raises:
        UserError: it is not the config of a run, a reference in it leads nowhere, or it names code that is not trusted.
    """
    missing = [key for key in GROUPS if not isinstance(data, dict) or not isinstance(data.get(key), dict)]
    if missing:
        raise UserError(f"{source}: {', '.join(missing)}: missing, or not a group of fields; give the config of a run")
    register_resolvers()
    try:
        require_trusted(data, source)
        config = OmegaConf.create(data)
        require_trusted(to_plain_dict(config), source)
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{source}: {get_first_line(error)}; refer to fields of this file, as ${{seed}}") from error
    return config
