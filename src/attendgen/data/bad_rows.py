"""Rows of a data set that cannot be used: named together in one message, or left out and counted."""

import json
import logging
from pathlib import Path
from typing import Any

from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # rows that a message names; it counts the others


class BadRowError(Exception):
    """A row of a data set cannot be used; the message says why."""


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        BadRowError: it is broken or something else, names a field twice, or holds NaN or half a character.
    """
    try:
        found = json.loads(text, object_pairs_hook=_require_distinct, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"broken JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRowError(f"expected a JSON object, found {type(found).__name__}")
    require_characters(text if "\\u" not in text else json.dumps(found, ensure_ascii=False))
    return found


def _require_distinct(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of its fields, of which JSON would keep the last one of a name."""
    found = dict(fields)
    if len(found) < len(fields):
        names = [name for name, _ in fields]
        raise BadRowError(f"field {next(name for name in names if names.count(name) > 1)!r} occurs twice; keep one")
    return found


def _refuse_constant(name: str) -> None:
    raise BadRowError(f"broken JSON: {name} is no value; write null")


def require_characters(text: str) -> None:
    """Check that a text holds whole characters: JSON can spell half of one, a surrogate, which cannot be written.

    Raises:
        BadRowError: it does not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start].encode("ascii", "backslashreplace").decode()
        raise BadRowError(f"{half} is half a character; remove it") from error


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
    if isinstance(value, str):
        require_characters(value)
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
