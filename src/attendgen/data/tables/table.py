"""Tables with their texts, as the readers give them, and tables as one line of text."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from attendgen.data.bad_rows import BadRowError, require_characters
from attendgen.layers.tables import Cell, Row, Table
from attendgen.text.table_vocabulary import shorten_kind

# a value ends at a bracket that is followed by the next slot or the end, so it may hold commas and brackets itself
SLOT = re.compile(r"\s*([^\[\],]+?)\s*\[(.*?)\]\s*(?:,\s*(?=[^\[\],]+\[)|$)", re.DOTALL)


class TableText(NamedTuple):
    """A table and a text about it."""

    table: Table
    text: str


@runtime_checkable
class TableSource(Protocol):
    """Reads tables and their texts."""

    def __call__(self, files: Sequence[Path]) -> list[TableText]:
        """Read the files of one split; a table occurs once for each of its texts.

        Raises:
            UserError: a file is missing or broken; the message names the file and the row.
        """


def make_slot(name: str, *values: str) -> Row:
    """Return the row of a slot, which has a cell for each of its values."""
    return Row(name, tuple(Cell(name, "", value) for value in values))


def parse_slots(text: str) -> Table:
    """Return the table of a meaning representation, `name[The Eagle], food[French]`.

    Raises:
        BadRowError: it has another form, or a slot has no value.
    """
    rows: list[Row] = []
    end = 0
    while end < len(text):
        found = SLOT.match(text, end)
        if found is None:
            raise BadRowError(f"expected slot[value], slot[value], found {shorten(text[end:])!r}")
        name, value = found[1], " ".join(found[2].split())
        if not value:
            raise BadRowError(f"slot {name!r} has no value")
        rows.append(make_slot(name, value))
        end = found.end()
    if not rows:
        raise BadRowError("empty table")
    return tuple(rows)


def group_records(kinds: Sequence[str], values: Sequence[str], entities: Sequence[str]) -> Table:
    """Return the table of parallel lists, with one row per entity in the order of their first records.

    Raises:
        BadRowError: there are none, or the lists differ in length.
    """
    if not len(kinds) == len(values) == len(entities):
        raise BadRowError(
            f"{len(kinds)} types, {len(values)} values and {len(entities)} entities; they must correspond"
        )
    if not kinds:
        raise BadRowError("empty table")
    rows: dict[str, list[Cell]] = {}
    for cell in map(Cell, kinds, entities, values):
        rows.setdefault(cell.entity, []).append(cell)
    return tuple(Row(entity, tuple(cells)) for entity, cells in rows.items())


def format_table(table: Table) -> str:
    """Return a table as one line, `name[The Eagle], food[French]` or `Al_Horford PTS 17; Boston PTS 103`."""
    cells = [cell for row in table for cell in row.cells]
    if any(cell.entity for cell in cells):
        return "; ".join(" ".join(filter(None, (c.entity, shorten_kind(c.kind), c.value))) for c in cells)
    return ", ".join(f"{cell.kind}[{cell.value}]" for cell in cells)


def clean_text(text: object, field: str) -> str:
    """Return the text of a field with single spaces.

    Raises:
        BadRowError: it is empty or not a text, or holds half a character.
    """
    if not isinstance(text, str):
        raise BadRowError(f"field {field!r}: expected a text, found {type(text).__name__}")
    cleaned = " ".join(text.split())
    if not cleaned:
        raise BadRowError(f"field {field!r}: empty text")
    require_characters(cleaned)
    return cleaned


def shorten(text: str, length: int = 40) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= length else f"{text[:length]}..."
