"""Tables as users write them: on the command line, or in a file without texts."""

import contextlib
import difflib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attendgen.data.bad_rows import BadRowError, read_object
from attendgen.data.tables.json_lines import read_rows
from attendgen.data.tables.meaning_representations import Pick, read_columns
from attendgen.data.tables.rotowire import read_game
from attendgen.data.tables.table import format_table, group_records, parse_slots, shorten
from attendgen.layers.tables import Cell, Table
from attendgen.text.table_vocabulary import ClosedVocabulary, TableVocabulary, fold_name, shorten_kind, split_value
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json

TABLE_FILES = (".csv", ".json")
SHOWN = 5  # names that a message lists
RECORDS = "ENTITY KIND VALUE; ENTITY KIND VALUE"


def parse_table(text: str, vocabulary: TableVocabulary) -> Table:
    """Return the table of a text: `name[The Eagle], food[French]`, `Al Horford PTS 17; Boston PTS 103`, or JSON.

    The second form is that of tables with entities. A record type may be written without PLAYER- or TEAM-; the cell
    that states the name of a player or team is added. The third form is that of `TableLines`. Names and values are
    found however they are capitalized, and with blanks or underscores between their words.

    Raises:
        UserError: it has another form, or a kind, entity or value is unknown.
    """
    try:
        if text.lstrip().startswith("{"):
            table = read_rows(read_object(text))
        elif len(vocabulary.entities.names) == 0:
            table = parse_slots(text)
        else:
            table = parse_records(text, vocabulary)
    except BadRowError as error:
        raise UserError(f"text: {error}") from error
    table = spell_names(table, vocabulary)
    require_known(table, vocabulary)
    return table


def spell_names(table: Table, vocabulary: TableVocabulary) -> Table:
    """Return a table with the names and values that a vocabulary knows, where those of the table are spelled alike."""
    rows = []
    for row in table:
        cells = []
        for cell in row.cells:
            kind = vocabulary.kinds.find(cell.kind)
            value = cell.value if kind in vocabulary.delexicalised else _spell_value(cell.value, vocabulary.values)
            cells.append(Cell(kind, vocabulary.entities.find(cell.entity) if cell.entity else "", value))
        names = vocabulary.kinds if not any(cell.entity for cell in cells) else vocabulary.entities
        rows.append(row._replace(name=names.find(row.name), cells=tuple(cells)))
    return tuple(rows)


def _spell_value(value: str, known: ClosedVocabulary) -> str:
    """Return a known value that is spelled alike, or the value with each of its words so."""
    found = known.find(value)
    return found if found in known else " ".join(map(known.find, value.split()))


def parse_records(text: str, vocabulary: TableVocabulary) -> Table:
    """Return the table of records `ENTITY KIND VALUE; ENTITY KIND VALUE`, with the names of the entities.

    Raises:
        BadRowError: a record has another form.
        UserError: a kind is unknown or ambiguous.
    """
    cells = [_parse_record(record.split(), vocabulary) for record in text.split(";") if record.strip()]
    named = {cell.entity for cell in cells if cell.kind == vocabulary.headings.get(cell.entity)}
    names = [
        Cell(heading, entity, entity)
        for entity in dict.fromkeys(cell.entity for cell in cells)
        if entity not in named and (heading := vocabulary.headings.get(entity))
    ]
    cells = [*names, *cells]
    return group_records([cell.kind for cell in cells], [cell.value for cell in cells], [cell.entity for cell in cells])


def _parse_record(words: Sequence[str], vocabulary: TableVocabulary) -> Cell:
    for place in range(1, len(words)):
        entity = vocabulary.entities.find(" ".join(words[:place]))
        if found := _find_kinds(words[place], entity, vocabulary):
            if len(found) > 1 and entity in vocabulary.entities:
                raise UserError(f"text: kind {words[place]!r} of {entity!r}: {' or '.join(found)}; give one of them")
            if place == len(words) - 1:
                raise BadRowError(f"record {shorten(' '.join(words))!r} has no value; expected {RECORDS}")
            return Cell(found[0], entity, " ".join(words[place + 1 :]))
    if len(words) < 3:
        raise BadRowError(f"expected {RECORDS}, found {shorten(' '.join(words))!r}")
    kinds = list(dict.fromkeys(map(shorten_kind, vocabulary.kinds.names)))
    raise UserError(f"text: kind {words[-2]!r}: unknown; known ones are {_choose(words[-2], kinds)}")


def _find_kinds(word: str, entity: str, vocabulary: TableVocabulary) -> list[str]:
    """Return the kinds that a word can mean; those of a player if the entity is one, and of a team likewise."""
    if vocabulary.kinds.find(word) in vocabulary.kinds:
        return [vocabulary.kinds.find(word)]
    found = [kind for kind in vocabulary.kinds.names if fold_name(shorten_kind(kind)) == fold_name(word)]
    heading = vocabulary.headings.get(entity, "")
    own = [kind for kind in found if heading and kind[:4] == heading[:4]]  # PLAYER_NAME and PLAYER-PTS
    return own or found


def require_known(table: Table, vocabulary: TableVocabulary) -> None:
    """Check that a vocabulary knows all names and values of a table.

    Raises:
        UserError: it does not; the message names the first that is unknown, and some that are known.
    """
    for row, hidden in zip(table, vocabulary.delexicalise(table), strict=True):
        for cell, written in zip(row.cells, hidden.cells, strict=True):
            _require_cell(cell, written.value, vocabulary)


def _require_cell(cell: Cell, value: str, vocabulary: TableVocabulary) -> None:
    if cell.kind not in vocabulary.kinds:
        known = _choose(cell.kind, vocabulary.kinds.names)
        raise UserError(f"text: {'kind' if cell.entity else 'slot'} {cell.kind!r}: unknown; known ones are {known}")
    if cell.entity and cell.entity not in vocabulary.entities:
        known = _choose(cell.entity, vocabulary.entities.names)
        raise UserError(f"text: {cell.entity!r}: unknown; known ones are {known}")
    if any(word not in vocabulary.values for word in split_value(value, vocabulary.target)):
        examples = ", ".join(vocabulary.examples.get(cell.kind, ()))
        raise UserError(f"text: {cell.kind} {cell.value!r}: unknown; known ones are {examples}")


def _choose(name: str, known: Sequence[str]) -> str:
    """Return some known names, those most like another first."""
    close = difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.4)
    return ", ".join(list(dict.fromkeys([*close, *known]))[:SHOWN])


def is_table_file(name: str | Path) -> bool:
    """Return whether a file holds tables in another form than one per line."""
    return Path(name).suffix.lower() in TABLE_FILES


def read_tables(path: Path, column: str = "mr") -> list[Table]:
    """Return the tables of a CSV, or of a JSON file.

    A JSON file holds one object with `rows`, or a game of RotoWire, or a list of them.

    Args:
        column: of the tables in a CSV.

    Raises:
        UserError: the file is missing or broken, or holds no table.
    """
    if path.suffix.lower() == ".csv":
        rows = read_columns(path, (column,))
        tables = [_read_part(path, f"line {number}", _read_picked, pick) for number, pick in rows]
    else:
        found = read_json(path)
        parts = found if isinstance(found, list) else [found]
        tables = [_read_part(path, f"table {number}", _read_json, part) for number, part in enumerate(parts, 1)]
    if not tables:
        raise UserError(f"{path}: no tables; see docs/guide/data.md for their form")
    return tables


def _read_part(path: Path, where: str, read: Callable[[Any], Table], part: object) -> Table:
    """Return a table of a file."""
    try:
        return read(part)
    except BadRowError as error:
        raise UserError(f"{path}: {where}: {error}") from error


def _read_picked(pick: Pick) -> Table:
    return parse_slots(pick()[0])


def _read_json(found: object) -> Table:
    if not isinstance(found, dict):
        raise BadRowError(f"expected an object with 'rows', found {type(found).__name__}")
    return read_game(found) if "box_score" in found else read_rows(found)


def write_line(table: Table) -> str:
    """Return a table as one line that `parse_table` reads: as slots if it can be written so, otherwise as JSON."""
    if all(not cell.entity for row in table for cell in row.cells):
        line = format_table(table)
        with contextlib.suppress(BadRowError):
            if parse_slots(line) == table:
                return line
        return _write_json(_collect([cell for row in table for cell in row.cells]))
    return _write_json([{"name": row.name, "side": row.side, "cells": _collect(row.cells)} for row in table])


def _write_json(rows: object) -> str:
    return json.dumps({"rows": rows}, ensure_ascii=False)


def _collect(cells: Sequence[Cell]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for cell in cells:
        values.setdefault(cell.kind, []).append(cell.value)
    return values
