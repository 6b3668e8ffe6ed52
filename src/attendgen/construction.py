"""Configs to objects."""

from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from attendgen.errors import UserError


def construct(config: DictConfig, field: str = "config", /, **arguments: Any) -> Any:
    """Instantiate a config; a wrong field is a user's mistake.

    Args:
        field: what the message names.

    Raises:
        UserError: the target is unknown, or refuses its arguments.
    """
    try:
        return instantiate(config, **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        mistakes = (TypeError, ValueError, ImportError, AttributeError, MisconfigurationException)
        if isinstance(cause, mistakes) or cause is None:
            raise UserError(f"{field}: {first_line(cause or error)}") from error
        raise


def first_line(error: BaseException) -> str:
    """An error's message in one line."""
    message = str(error)
    for detail in ("\n    full_key", "\nfull_key", "\nConfig search path"):
        message = message.split(detail)[0]
    return " ".join(message.split())
