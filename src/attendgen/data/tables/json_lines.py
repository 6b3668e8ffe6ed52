"""Reader of tables and texts of one's own, one JSON object per line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attendgen.data.bad_rows import BadRowError, BadRows, get_field, read_object
from attendgen.data.tables.table import TableText, clean_text, make_slot
from attendgen.layers.tables import Cell, Row, Table
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text


class TableLines:
    """`{"rows": [...], "text": "..."}` per line; `texts` is a list of several texts about the table.

    Each of the rows is `{"name": "Al_Horford", "cells": {"PTS": 17, "REB": 8}}`, and may have a "side". A table of one
    thing is written as `"rows": {"name": "The Eagle", "food": "French"}`. A value is a text, a number, true, false,
    or a list of them; null is left out.

    Args:
        skip_bad: leave unusable lines out.
        encoding: of the file; None is UTF-8.
    """

    def __init__(self, skip_bad: bool = False, encoding: str | None = None) -> None:
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, files: Sequence[Path]) -> list[TableText]:
        """Read one file or several.

        Raises:
            UserError: a file is missing, broken or empty.
        """
        return [pair for path in files for pair in self._read(path)]

    def _read(self, path: Path) -> list[TableText]:
        bad = BadRows(path, self.skip_bad)
        found: list[TableText] = []
        for number, line in enumerate(read_text(path, self.encoding).split("\n"), 1):
            try:
                if line.strip():
                    found += _read_line(line)
            except BadRowError as error:
                bad.add(f"line {number}", error)
        bad.finish()
        if not found:
            raise UserError(f"{path}: no tables; expected one JSON object with 'rows' and 'text' per line")
        return found


def _read_line(line: str) -> list[TableText]:
    found = read_object(line)
    field = "texts" if "texts" in found else "text"
    texts = found.get("texts", [found["text"]] if "text" in found else None)
    if not isinstance(texts, list) or not texts:
        raise BadRowError("field 'text' or 'texts': expected a text, or a list of them")
    table = read_rows(found)
    return [TableText(table, clean_text(text, field)) for text in texts]


def read_rows(found: Mapping[str, Any]) -> Table:
    """Return the table of an object with "rows".

    Raises:
        BadRowError: a field is missing or of another kind.
    """
    rows = get_field(found, "rows")
    if not isinstance(rows, list | dict):
        raise BadRowError(f"field 'rows': expected a list or an object, found {type(rows).__name__}")
    if isinstance(rows, dict):
        table = tuple(make_slot(name, *values) for name, value in rows.items() if (values := read_values(name, value)))
    else:
        table = tuple(_read_row(number, row) for number, row in enumerate(rows, 1))
    if not any(row.cells for row in table):
        raise BadRowError("field 'rows': empty table")
    return table


def _read_row(number: int, row: object) -> Row:
    try:
        name, side = get_field(row, "name", str), row.get("side") or ""  # type: ignore[attr-defined]  # a dict
        if not name.strip():
            raise BadRowError("field 'name': empty")
        cells = get_field(row, "cells", dict)
        found = [Cell(kind, name, text) for kind, value in cells.items() for text in read_values(kind, value)]
        if not isinstance(side, str):
            raise BadRowError(f"field 'side': expected str, found {type(side).__name__}")
    except BadRowError as error:
        raise BadRowError(f"field 'rows': row {number}: {error}") from error
    return Row(name, tuple(found), side)


def read_values(kind: str, value: object) -> list[str]:
    """Return the texts of a JSON value; none of null.

    Raises:
        BadRowError: it is an object.
    """
    if isinstance(value, list):
        return [text for part in value for text in read_values(kind, part)]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, str | int | float):
        text = " ".join(str(value).split())
        return [text] if text else []
    if value is None:
        return []
    raise BadRowError(f"value of {kind!r}: expected a text, a number or a list, found {type(value).__name__}")
