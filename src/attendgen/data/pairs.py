"""Sentence pairs from a TSV: questions and answers, or a language and its translation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from attendgen.data.batch import PairBatch, pad, shifted
from attendgen.data.batching import bucket_loader, require_positive
from attendgen.errors import UserError
from attendgen.files import read_text
from attendgen.vocabulary import Level, PairVocabulary, Vocabulary

Pair = tuple[str, str]
Files = str | Sequence[str]
Encoded = tuple[int, list[int], list[int]]
Row = tuple[int, list[str]]  # a line's number and its cells

NUMBER = re.compile(r"[.,:/%-]*\d[\d.,:/%-]*")  # also a date, a time, a fraction, a percentage
ID = re.compile(r"(\S*[^\d\s])\d+")


def read_pairs(path: str | Path, columns: Sequence[int] | None = None) -> list[Pair]:
    """Return the source and target of each line of a TSV; blank lines are passed over.

    Args:
        columns: of the source and the target, counted from 1; None takes the first two, after a check that they are not
            numbers or ids.

    Raises:
        UserError: the file is missing or empty, a line has too few columns or an empty side, or the check fails.
    """
    rows: list[Row] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if columns is None and len(cells) == 1:
            raise UserError(f"{path}: line {number}: no tab; expected SOURCE<tab>TARGET")
        if columns is not None and len(cells) < max(columns):
            raise UserError(
                f"{path}: line {number}: no column {max(columns)}, which data.columns={format_columns(columns)} "
                "asks for; correct the line or the setting"
            )
        rows.append((number, cells))
    if not rows:
        raise UserError(f"{path}: no sentence pairs; expected lines of SOURCE<tab>TARGET")
    if columns is None:
        require_sentences(path, rows)
    pairs = []
    for number, cells in rows:
        source, target = (cells[column - 1] for column in columns or (1, 2))
        for side, text in (("source", source), ("target", target)):
            if not text:
                raise UserError(f"{path}: line {number}: empty {side}")
        pairs.append((source, target))
    return pairs


def require_sentences(path: str | Path, rows: Sequence[Row]) -> None:
    """Check that the first two columns of a TSV can be a source and a target, and that at most one more follows.

    Two columns may hold sums and their results, and a third column may hold an attribution, as Anki's files do.

    Raises:
        UserError: they cannot; the message advises `data.columns`.
    """
    first, second = filled_cells(rows, 1), filled_cells(rows, 2)
    widest = 0
    for number, cells in rows:
        width = max((column for column, cell in enumerate(cells, 1) if cell), default=0)
        if width > 3:
            seen = f"{width} columns, of which the first is {quote(cells[0])}"
            raise UserError(f"{path}: line {number}: {seen}; expected SOURCE<tab>TARGET; {advise(rows)}")
        widest = max(widest, width)
    if first and (kind := recognise(first)):
        raise UserError(f"{path}: column 1 holds only {kind}, such as {quote(example(first))}; {advise(rows)}")
    if second and widest == 3 and recognise(second) == "numbers":
        raise UserError(f"{path}: column 2 of 3 holds only numbers, such as {quote(example(second))}; {advise(rows)}")


def filled_cells(rows: Sequence[Row], column: int) -> list[str]:
    """Return the cells of a column, counted from 1, that are not blank."""
    return [cells[column - 1] for _, cells in rows if len(cells) >= column and cells[column - 1]]


def recognise(cells: Sequence[str]) -> str | None:
    """Return "numbers" or "ids" if all of a column's cells, or all below a header, are that, else None.

    Ids are distinct, and each is the same prefix and a number: s0001, eng_12, train-0007.
    """
    return _recognise(cells) or (_recognise(cells[1:]) if len(cells) > 2 else None)


def example(cells: Sequence[str]) -> str:
    """Return the first of a column's numbers or ids."""
    return cells[0] if _recognise(cells) else cells[1]


def _recognise(cells: Sequence[str]) -> str | None:
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
        cells = filled_cells(rows, column)
        if cells and not recognise(cells):
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


def read_aligned(source: str | Path, target: str | Path) -> list[Pair]:
    """The pairs of two files whose lines correspond; lines blank in both are passed over.

    Raises:
        UserError: a file is missing, they differ in length, a line is empty in one of them, or there is no pair.
    """
    sides = [read_text(path).removesuffix("\n").split("\n") for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise UserError(f"{target}: {len(sides[1])} lines, but {source} has {len(sides[0])}; they must correspond")
    pairs = []
    for number, pair in enumerate(zip(*sides, strict=True), 1):
        stripped = (pair[0].strip(), pair[1].strip())
        if not any(stripped):
            continue
        for path, text in zip((source, target), stripped, strict=True):
            if not text:
                raise UserError(f"{path}: line {number}: empty, but its counterpart is not")
        pairs.append(stripped)
    if not pairs:
        raise UserError(f"{source}: no sentences; expected one a line")
    return pairs


class PairData(Dataset[Encoded]):
    """Pairs as ids."""

    def __init__(self, pairs: Sequence[Pair], vocabulary: PairVocabulary, path: str | Path) -> None:
        self.pairs = pairs
        self.ids = [(vocabulary.source.encode(source), vocabulary.target.encode(target)) for source, target in pairs]
        normalise = (vocabulary.source.normalise, vocabulary.target.normalise)
        for pair, ids in zip(pairs, self.ids, strict=True):
            for side, rule, text, encoded in zip(("source", "target"), normalise, pair, ids, strict=True):
                if not encoded:
                    raise UserError(f"{path}: nothing is left of {side} {text!r} after data.{side}_normalise={rule}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Encoded:
        return index, *self.ids[index]


def collate(examples: Sequence[Encoded]) -> PairBatch:
    """Pad sources and targets."""
    index, sources, targets = zip(*examples, strict=True)
    return PairBatch(torch.tensor(index), pad(sources), *shifted(targets))


class PairDataModule(lightning.LightningDataModule):
    """Sentence pairs for training and validation.

    Args:
        train, val, test: a TSV file each, or two aligned files [source, target]; val defaults to train (the toy pairs
            are learnt by heart), test to none.
        root: the folder to which relative file names belong.
        columns: of a TSV's source and target, counted from 1; None takes the first two and checks that they are not
            numbers or ids.
        level: "characters" or "words".
        source_normalise, target_normalise: see `vocabulary.NORMALISERS`.
        min_frequency: rarer symbols become <unk>.
        batch_size: pairs a batch.
    """

    def __init__(
        self,
        train: Files,
        val: Files | None = None,
        test: Files | None = None,
        root: str = ".",
        level: Level = "characters",
        source_normalise: str = "none",
        target_normalise: str = "none",
        min_frequency: int = 1,
        batch_size: int = 32,
        workers: int = 0,
        seed: int = 0,
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        require_positive(batch_size=batch_size)
        require_columns(columns)
        self.files = {"train": train, "val": val or train, "test": test}
        self.root = Path(root)
        self.columns = columns
        self.level = level
        self.normalise = (source_normalise, target_normalise)
        self.min_frequency = min_frequency
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.eval_split = "val"
        self.vocabulary: PairVocabulary | None = None
        self.sets: dict[tuple[Path, ...], PairData] = {}

    def paths(self, split: str) -> tuple[Path, ...]:
        """The TSV of a split, or its source and target file.

        Raises:
            UserError: there is no such split, or its files are neither one nor two.
        """
        split = "val" if split == "dev" else split
        if split not in self.files:
            raise UserError(f"split {split!r}: unknown; choose train, val or test")
        files = self.files[split]
        if files is None:
            raise UserError(f"data.{split}: this run has no {split} pairs; give data.{split}=FILE or another --split")
        names = [files] if isinstance(files, str) else list(files)
        if len(names) not in (1, 2):
            raise UserError(f"data.{split}: {len(names)} files; give a TSV, or the source's file and the target's")
        return tuple(self.root / name for name in names)

    def read(self, split: str) -> list[Pair]:
        """Return a split's pairs.

        Raises:
            UserError: a file is missing or broken, or `columns` are given of two aligned files.
        """
        paths = self.paths(split)
        if len(paths) == 1:
            return read_pairs(*paths, self.columns)
        if self.columns is not None:
            raise UserError(
                f"data.columns={format_columns(self.columns)}: {paths[0]} and {paths[1]} are aligned files without "
                f"columns; give data.{split} one TSV, or set data.columns=null"
            )
        return read_aligned(*paths)

    def build_vocabulary(self) -> PairVocabulary:
        """The symbols of the training pairs, source and target apart."""
        sides = zip(*self.read("train"), strict=True)
        built = (
            Vocabulary.build(texts, self.level, normalise, self.min_frequency)
            for texts, normalise in zip(sides, self.normalise, strict=True)
        )
        self.vocabulary = PairVocabulary(*built)
        return self.vocabulary

    def dataset(self, split: str) -> PairData:
        """A split's pairs as ids."""
        paths = self.paths(split)
        if paths not in self.sets:
            vocabulary = self.vocabulary or self.build_vocabulary()
            self.sets[paths] = PairData(self.read(split), vocabulary, " and ".join(map(str, paths)))
        return self.sets[paths]

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Every target that the split gives for each pair's source, by the pair's index."""
        pairs = self.dataset(split).pairs
        targets: dict[str, list[str]] = {}
        for source, target in pairs:
            targets.setdefault(source, []).append(target)
        return {index: tuple(targets[source]) for index, (source, _) in enumerate(pairs)}

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs."""
        for split in ("train", "val") if stage == "fit" else (self.eval_split,):
            self.dataset(split)

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Any]:
        """Batches of a split: shuffled buckets, or in order of length, every pair once."""
        data = self.dataset(split)
        lengths = [len(source) + len(target) for source, target in data.ids]
        return bucket_loader(self, data, lengths, collate, self.batch_size, shuffle, self.workers, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.eval_split)
