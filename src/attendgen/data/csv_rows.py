"""Rows of CSV files, of which one that is broken does not take the others with it."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from attendgen.data.bad_rows import BadRowError
from attendgen.utils.files import read_text

BROKEN = f"broken CSV: a quote is not closed or not doubled, or a cell has over {csv.field_size_limit():,} characters"


def read_csv_rows(path: str | Path, encoding: str | None = None) -> Iterator[tuple[int, list[str] | BadRowError]]:
    """Yield the number of each row's first line, and its cells or why it cannot be used; blank lines are passed over.

    A row after a broken one is looked for on the next line.

    Args:
        encoding: of the file; None is UTF-8.

    Raises:
        UserError: the file is missing, unreadable or in another encoding.
    """
    lines = read_text(path, encoding).split("\n")
    start = 0
    while start < len(lines):
        reader = csv.reader((f"{lines[number]}\n" for number in range(start, len(lines))), strict=True)
        first = start
        try:
            for cells in reader:
                if cells:
                    yield first + 1, cells
                first = start + reader.line_num
            return
        except csv.Error:
            yield first + 1, BadRowError(BROKEN)
            start = first + 1


def require_width(cells: Sequence[str], columns: int) -> None:
    """Check that a row has no more cells than the header.

    Raises:
        BadRowError: it has, as if a value with commas were not in quotes.
    """
    if any(cell.strip() for cell in cells[columns:]):
        raise BadRowError(f"{len(cells)} cells, but the header has {columns}; put values with commas in quotes")
