"""Rows of a data set that cannot be used: named together in one message, or left out and counted."""

import logging
from pathlib import Path
from typing import Any

from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # rows that a message names; it counts the others


class BadRowError(Exception):
    """A row of a data set cannot be used; the message says why."""


def get_field(row: object, name: str, kind: Any = object) -> Any:  # noqa: ANN401  # a class or a union; a value of it
    """Return a field of a JSON object.

    Raises:
        BadRowError: it is missing or of another kind.
    """
    if not isinstance(row, dict) or name not in row:
        raise BadRowError(f"field {name!r} is missing")
    value = row[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = getattr(kind, "__name__", str(kind))
        raise BadRowError(f"field {name!r}: expected {wanted}, found {type(value).__name__}")
    return value


class BadRows:
    """The unusable rows of a file: they are named in one message, or left out and counted.

    Args:
        path: the file.
        skip: leave them out.
    """

    def __init__(self, path: Path, skip: bool = False) -> None:
        self.path = path
        self.skip = skip
        self.found: list[str] = []

    def add(self, where: str, reason: object) -> None:
        """Note a row, by its place in the file."""
        self.found.append(f"{where}: {reason}")

    def finish(self) -> None:
        """Log how many rows are left out.

        Raises:
            UserError: there are some, and they are not to be left out.
        """
        count = len(self.found)
        if not count:
            return
        shown = "; ".join(self.found[:SHOWN]) + (f"; and {count - SHOWN} more" if count > SHOWN else "")
        if not self.skip:
            them = "it" if count == 1 else f"these {count} rows"
            raise UserError(f"{self.path}: {shown}; data.skip_bad=true leaves {them} out")
        log.warning("%s: %d unusable rows left out: %s", self.path, count, shown)
