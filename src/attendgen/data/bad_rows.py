"""Rows of a data set that cannot be used: named together in one message, or left out and counted."""

import logging
from pathlib import Path

from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # rows that a message names; it counts the others


class BadRowError(Exception):
    """A row of a data set cannot be used; the message says why."""


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
