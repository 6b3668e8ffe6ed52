"""Reading sentence pairs from TSV files and aligned files."""

import re
from collections.abc import Sequence
from pathlib import Path

from attendgen.data.bad_rows import BadRows
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text

Pair = tuple[str, str]
Row = tuple[int, list[str]]  # a line's number and its cells
NUMBER = re.compile(r"[.,:/%-]*\d[\d.,:/%-]*")  # also a date, a time, a fraction, a percentage
ID = re.compile(r"(\S*[^\d\s])\d+")


def read_pairs(
    path: str | Path, columns: Sequence[int] | None = None, skip_bad: bool = False, encoding: str | None = None
) -> list[Pair]:
    """Return the source and target of each line of a TSV; blank lines are passed over.

    Args:
        columns: of the source and the target, counted from 1; None takes the first two, after a check that they are not
            numbers or ids.
        skip_bad: leave out lines with too few columns or an empty side.
        encoding: of the file; None is UTF-8.

    Raises:
        UserError: the file is missing or empty, lines cannot be used, or the check fails.
    """
    rows: list[Row] = []
    bad = BadRows(Path(path), skip_bad)
    for number, line in enumerate(read_text(path, encoding).split("\n"), 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if columns is None and len(cells) == 1 and cells[0]:
            bad.add(f"line {number}", "no tab; expected SOURCE<tab>TARGET")
        elif columns is not None and any(cells) and len(cells) < max(columns):
            asked = f"data.columns={format_columns(columns)}"
            bad.add(f"line {number}", f"no column {max(columns)}, which {asked} asks for")
        elif any(cells):
            rows.append((number, cells))
    if columns is None and rows:
        require_sentences(path, rows)
    pairs = []
    for number, cells in rows:
        source, target = (cells[column - 1] for column in columns or (1, 2))
        if source and target:
            pairs.append((source, target))
        else:
            bad.add(f"line {number}", "empty target" if source else "empty source")
    bad.finish()
    if not pairs:
        raise UserError(f"{path}: no sentence pairs; expected lines of SOURCE<tab>TARGET")
    return pairs


def require_sentences(path: str | Path, rows: Sequence[Row]) -> None:
    """Check that the first two columns of a TSV can be a source and a target, and that at most one more follows.

    Two columns may hold sums and their results, and a third column may hold an attribution, as Anki's files do.

    Raises:
        UserError: they cannot; the message advises `data.columns`.
    """
    first, second = find_filled_cells(rows, 1), find_filled_cells(rows, 2)
    widest = 0
    for number, cells in rows:
        width = max((column for column, cell in enumerate(cells, 1) if cell), default=0)
        if width > 3:
            seen = f"{width} columns, of which the first is {quote(cells[0])}"
            raise UserError(f"{path}: line {number}: {seen}; expected SOURCE<tab>TARGET; {advise(rows)}")
        widest = max(widest, width)
    if first and (kind := recognize(first)):
        raise UserError(f"{path}: column 1 holds only {kind}, such as {quote(get_example(first))}; {advise(rows)}")
    if second and widest == 3 and recognize(second) == "numbers":
        raise UserError(
            f"{path}: column 2 of 3 holds only numbers, such as {quote(get_example(second))}; {advise(rows)}"
        )


def find_filled_cells(rows: Sequence[Row], column: int) -> list[str]:
    """Return the cells of a column, counted from 1, that are not blank."""
    return [cells[column - 1] for _, cells in rows if len(cells) >= column and cells[column - 1]]


def recognize(cells: Sequence[str]) -> str | None:
    """Return "numbers" or "ids" if all of a column's cells, or all below a header, are that, else None.

    Ids are distinct, and each is the same prefix and a number: s0001, eng_12, train-0007.
    """
    return _recognize(cells) or (_recognize(cells[1:]) if len(cells) > 2 else None)


def get_example(cells: Sequence[str]) -> str:
    """Return the first of a column's numbers or ids."""
    return cells[0] if _recognize(cells) else cells[1]


def _recognize(cells: Sequence[str]) -> str | None:
    if all(map(NUMBER.fullmatch, cells)):
        return "numbers"
    found = ID.fullmatch(cells[0])
    if not found or len(cells) < 2 or len(set(cells)) < len(cells):
        return None
    return "ids" if all(map(re.compile(rf"{re.escape(found[1])}\d+").fullmatch, cells)) else None


def advise(rows: Sequence[Row]) -> str:
    """Return which `data.columns` to set: the first two columns that hold neither numbers nor ids."""
    likely: list[int] = []
    for column in range(1, max(len(cells) for _, cells in rows) + 1):
        cells = find_filled_cells(rows, column)
        if cells and not recognize(cells):
            likely.append(column)
        if len(likely) == 2:
            break
    if likely == [1, 2]:
        return "name the columns of source and target: data.columns=[1,2]"
    asis = "or data.columns=[1,2] if the first two columns are meant"
    if len(likely) < 2:
        return f"name the columns of source and target by data.columns, {asis}"
    return f"name the columns of source and target: data.columns={format_columns(likely)}, {asis}"


def quote(text: str, length: int = 40) -> str:
    """Return the beginning of a text in quotation marks."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


def format_columns(columns: Sequence[int]) -> str:
    """Return column numbers as they are written on a command line."""
    return f"[{','.join(map(str, columns))}]"


def require_columns(columns: object) -> None:
    """Check the setting `data.columns`.

    Raises:
        UserError: it is neither None nor two different whole numbers from 1.
    """
    if columns is None:
        return
    numbers = columns if isinstance(columns, list | tuple) else ()
    valid = len(numbers) == 2 and all(type(number) is int and number >= 1 for number in numbers)
    if not valid or numbers[0] == numbers[1]:
        raise UserError(
            f"data.columns={columns!r}: expected two different whole numbers from 1, the columns of source and target, "
            "as data.columns=[2,4]"
        )


def read_aligned(
    source: str | Path, target: str | Path, skip_bad: bool = False, encoding: str | None = None
) -> list[Pair]:
    """Return the pairs of two files whose lines correspond; lines blank in both are passed over.

    Args:
        skip_bad: leave out lines that are empty in one of the files.
        encoding: of the files; None is UTF-8.

    Raises:
        UserError: a file is missing, they differ in length, a line is empty in one of them, or there is no pair.
    """
    sides = [read_text(path, encoding).removesuffix("\n").split("\n") for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise UserError(f"{target}: {len(sides[1])} lines, but {source} has {len(sides[0])}; they must correspond")
    pairs: list[Pair] = []
    bad = {path: BadRows(Path(path), skip_bad) for path in (source, target)}
    for number, pair in enumerate(zip(*sides, strict=True), 1):
        stripped = (pair[0].strip(), pair[1].strip())
        if all(stripped):
            pairs.append(stripped)
        elif any(stripped):
            bad[target if stripped[0] else source].add(f"line {number}", "empty, but its counterpart is not")
    for found in bad.values():
        found.finish()
    if not pairs:
        raise UserError(f"{source}: no sentences; expected one per line")
    return pairs
