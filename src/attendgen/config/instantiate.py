"""Configs to objects."""

import re
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig

from attendgen.utils.errors import UserError, describe_refusal


def instantiate(config: DictConfig, field: str = "config", /, **arguments: Any) -> Any:
    """Instantiate a config.

    Args:
        field: what the message names.

    Raises:
        UserError: the target is unknown, or refuses its arguments.
    """
    try:
        return hydra_instantiate(config, **arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        mistakes = (TypeError, ValueError, ImportError, AttributeError, OSError)
        if isinstance(cause, mistakes) or cause is None or type(cause).__name__ == "MisconfigurationException":
            raise UserError(f"{_find_field(error, field)}: {get_first_line(cause or error)}") from error
        raise


def _find_field(error: BaseException, field: str) -> str:
    """Return the field below `field` that an error of Hydra names."""
    found = re.search(r"\nfull_key: (\S+)", str(error))
    if found is None:
        return field
    return found[1] if f"{found[1]}.".startswith(f"{field}.") else f"{field}.{found[1]}"


def get_first_line(error: BaseException) -> str:
    """Return an error's message in one line."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {describe_refusal(error)}"
    message = str(error)
    for detail in ("\n    full_key", "\nfull_key", "\nConfig search path"):
        message = message.split(detail)[0]
    return " ".join(message.split())
