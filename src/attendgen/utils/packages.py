"""Packages that only some families need."""

import importlib.util
from collections.abc import Mapping

from attendgen.utils.errors import UserError


def require_packages(extras: Mapping[str, str]) -> None:
    """Check that packages are installed.

    Args:
        extras: the extra of AttendGen that installs each package, by its module.

    Raises:
        UserError: one is not installed.
    """
    for module, extra in extras.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{module} is not installed; run pip install 'attendgen[{extra}]'")
