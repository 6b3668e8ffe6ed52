"""Tables as users write them: on the command line, or in a file without texts."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attendgen.data.bad_rows import BadRowError
from attendgen.data.tables.json_lines import read_object, read_rows
from attendgen.data.tables.meaning_representations import read_columns
from attendgen.data.tables.rotowire import read_game
from attendgen.data.tables.table import group_records, parse_slots, shorten
from attendgen.layers.tables import Cell, Table
from attendgen.text.table_vocabulary import ClosedVocabulary, TableVocabulary, shorten_kind, split_value
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json

TABLE_FILES = (".csv", ".json")  # files that hold tables in another form than one per line
SHOWN = 5  # names that a message lists


def parse_table(text: str, vocabulary: TableVocabulary) -> Table:
    """Return the table of a text: `name[The Eagle], food[French]`, `Al_Horford PTS 17; Boston PTS 103`, or JSON.

    The second form is that of tables with entities. A record type may be written without PLAYER- or TEAM-; the cell
    that states the name of a player or team is added. The third form is that of `TableLines`.

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
    require_known(table, vocabulary)
    return table


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
    for place in range(1, len(words) - 1):
        entity = _spell(words[:place], vocabulary.entities)
        if found := _find_kinds(words[place], entity, vocabulary):
            if len(found) > 1 and entity in vocabulary.entities:
                raise UserError(f"text: kind {words[place]!r} of {entity!r}: {' or '.join(found)}; give one of them")
            return Cell(found[0], entity, _spell(words[place + 1 :], vocabulary.values))
    if len(words) < 3:
        raise BadRowError(f"expected ENTITY KIND VALUE; ENTITY KIND VALUE, found {shorten(' '.join(words))!r}")
    kinds = list(dict.fromkeys(map(shorten_kind, vocabulary.kinds.names)))
    raise UserError(f"text: kind {words[-2]!r}: unknown; known ones are {_choose(words[-2], kinds)}")


def _spell(words: Sequence[str], known: ClosedVocabulary) -> str:
    """Return words with blanks between, or with underscores if that is a known name and the first is not."""
    joined = "_".join(words)
    return joined if joined in known else " ".join(words)


def _find_kinds(word: str, entity: str, vocabulary: TableVocabulary) -> list[str]:
    """Return the kinds that a word can mean; those of a player if the entity is one, and of a team likewise."""
    if word in vocabulary.kinds:
        return [word]
    found = [kind for kind in vocabulary.kinds.names if shorten_kind(kind) == word]
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


def read_tables(path: Path) -> list[Table]:
    """Return the tables of a CSV with a column `mr`, or of a JSON file.

    A JSON file holds one object with `rows`, or a game of RotoWire, or a list of them.

    Raises:
        UserError: the file is missing or broken, or holds no table.
    """
    try:
        if path.suffix == ".csv":
            tables = [parse_slots(text) for _, (text,) in read_columns(path, ("mr",))]
        else:
            found = read_json(path)
            tables = [_read_json(part) for part in (found if isinstance(found, list) else [found])]
    except BadRowError as error:
        raise UserError(f"{path}: {error}") from error
    if not tables:
        raise UserError(f"{path}: no tables")
    return tables


def _read_json(found: object) -> Table:
    if not isinstance(found, dict):
        raise BadRowError(f"expected an object with 'rows', found {type(found).__name__}")
    return read_game(found) if "box_score" in found else read_rows(found)


def write_line(table: Table) -> str:
    """Return a table as one line of JSON, which `parse_table` reads."""
    rows: Any = [{"name": row.name, "side": row.side, "cells": _collect(row.cells)} for row in table]
    if all(not cell.entity for row in table for cell in row.cells):
        rows = _collect([cell for row in table for cell in row.cells])
    return json.dumps({"rows": rows}, ensure_ascii=False)


def _collect(cells: Sequence[Cell]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for cell in cells:
        values.setdefault(cell.kind, []).append(cell.value)
    return values
