"""Reader of E2E's meaning representations: slots with a value each."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attendgen.data.bad_rows import BadRowError, BadRows
from attendgen.data.csv_rows import read_csv_rows, require_width
from attendgen.data.tables.table import TableText, clean_text, make_slot, parse_slots, shorten
from attendgen.layers.tables import Table
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text

Pick = Callable[[], list[str]]  # returns cells of a row, or raises a `BadRowError`
TAGGED = re.compile(r"\s*__start_(\w+?)__\s+(.*?)\s+__end_\1__\s*")
NAMES = {"customerrating": "customer rating"}  # slots whose names the tokenized form spells without a space


class MeaningRepresentations:
    """A table of meaning representations and texts, or two aligned files of tokenized ones.

    A CSV has the columns `mr`, as `name[The Eagle], food[French]`, and `ref`. Other columns are ignored.

    The lines of two aligned files are `__start_name__ The Eagle __end_name__ ...` and a tokenized text, which ends with
    <eos> and may be followed by `|||` and spans, which are ignored. They are detokenized, so that they equal the CSV of
    the same set.

    Args:
        table, text: names of the two columns of a CSV.
        skip_bad: leave unusable rows out.
        encoding: of the files; None is UTF-8.
    """

    def __init__(
        self, table: str = "mr", text: str = "ref", skip_bad: bool = False, encoding: str | None = None
    ) -> None:
        self.columns = (table, text)
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, files: Sequence[Path]) -> list[TableText]:
        """Read a CSV, or the two aligned files of tables and texts.

        Raises:
            UserError: a file is missing or broken, a column is missing, or there are neither one nor two files.
        """
        if len(files) not in (1, 2):
            raise UserError(f"data: {len(files)} files; give a CSV, or the file of the tables and that of the texts")
        if len(files) == 1:
            rows = read_columns(files[0], self.columns, self.encoding)
        else:
            rows = self._read_aligned(*files)
        bad = BadRows(files[0], self.skip_bad)
        found, parse = [], functools.cache(parse_slots if len(files) == 1 else parse_tagged)  # tables repeat
        for number, pick in rows:
            try:
                table, text = pick()
                found.append(TableText(parse(table), clean_text(text, self.columns[1])))
            except BadRowError as error:
                bad.add(f"line {number}", error)
        bad.finish()
        if not found:
            raise UserError(f"{files[0]}: no tables; expected lines of {' and '.join(self.columns)}")
        return found

    def _read_aligned(self, tables: Path, texts: Path) -> Iterator[tuple[int, Pick]]:
        sides = [read_text(path, self.encoding).removesuffix("\n").split("\n") for path in (tables, texts)]
        if len(sides[0]) != len(sides[1]):
            raise UserError(f"{texts}: {len(sides[1])} lines, but {tables} has {len(sides[0])}; they must correspond")
        for number, (table, text) in enumerate(zip(*sides, strict=True), 1):
            if table.strip() or text.strip():
                cells = [table, detokenize(text.partition("|||")[0].replace("<eos>", " "))]
                yield number, cells.copy


def read_columns(path: Path, columns: Sequence[str], encoding: str | None = None) -> Iterator[tuple[int, Pick]]:
    """Yield the number of each row's first line in a CSV with a header, and what returns its cells in some columns.

    Raises:
        UserError: the file is missing, or has no such column.
    """
    rows = read_csv_rows(path, encoding)
    _, found = next(rows, (1, []))
    header = [] if isinstance(found, BadRowError) else [name.strip() for name in found]
    missing = [name for name in columns if name not in header]
    if missing:
        if header and header[0].startswith(("{", "[")):
            raise UserError(f"{path}: JSON, not a CSV; data/source=table_lines reads one object per line")
        shown = shorten(", ".join(header), 80)
        raise UserError(f"{path}: no column {missing[0]!r}; the columns are {shown or 'missing'}")
    places = [header.index(name) for name in columns]
    for number, cells in rows:
        if isinstance(cells, BadRowError) or any(cell.strip() for cell in cells):
            yield number, functools.partial(pick_cells, cells, places, len(header))


def pick_cells(cells: Sequence[str] | BadRowError, places: Sequence[int], columns: int) -> list[str]:
    """Return some of a CSV row's cells; empty texts where it is too short.

    Raises:
        BadRowError: it is broken, or too long, as if a value with commas were not in quotes.
    """
    if isinstance(cells, BadRowError):
        raise cells
    require_width(cells, columns)
    return [cells[place] if place < len(cells) else "" for place in places]


def parse_tagged(text: str) -> Table:
    """Return the table of a tokenized meaning representation, `__start_name__ The Eagle __end_name__ ...`.

    Raises:
        BadRowError: it has another form.
    """
    rows, end = [], 0
    while end < len(text):
        found = TAGGED.match(text, end)
        if found is None:
            raise BadRowError(f"expected __start_slot__ value __end_slot__, found {shorten(text[end:])!r}")
        rows.append(make_slot(NAMES.get(found[1], found[1]), detokenize(found[2])))
        end = found.end()
    if not rows:
        raise BadRowError("empty table")
    return tuple(rows)


def detokenize(text: str) -> str:
    """Return a tokenized English text as it is written: `it 's £ 20 - 25 .` becomes `it's £20-25.`."""
    text = re.sub(r" ([,.;:!?)])", r"\1", " ".join(text.split()))
    text = re.sub(r"([(£$]) ", r"\1", text).replace(" - ", "-")
    return re.sub(r" '(s|t|re|ll|ve|m|d)\b", r"'\1", text)
