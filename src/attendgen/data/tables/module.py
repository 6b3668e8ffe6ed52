"""The data module of tables and texts about them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from attendgen.data.batch import TableBatch, pad_cells, shift_targets
from attendgen.data.loader import BatchSizes, make_bucket_loader, require_positive
from attendgen.data.module import BaseDataModule, canonical_split
from attendgen.data.packed import without_garbage_collection
from attendgen.data.tables.table import TableSource, TableText, format_table
from attendgen.data.tables.vocabulary import build_table_vocabulary
from attendgen.layers.tables import CellIds, Table
from attendgen.text.levels import make_tokenizer
from attendgen.text.protocol import Tokenizer
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

Encoded = tuple[int, list[CellIds], list[int]]
Grouped = tuple[list[Table], list[tuple[str, ...]]]


class TableDataset(Dataset[Encoded]):
    """Tables and texts as ids; tables that occur several times are encoded once."""

    def __init__(self, tables: Sequence[list[CellIds]], numbers: Sequence[int], texts: Sequence[list[int]]) -> None:
        self.tables = tables
        self.numbers = numbers  # of the table of each text
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Encoded:
        return index, self.tables[self.numbers[index]], self.texts[index]

    def measure_lengths(self) -> list[int]:
        """Return the number of cells and tokens of each example."""
        return [len(self.tables[number]) + len(text) for number, text in zip(self.numbers, self.texts, strict=True)]


def collate(examples: Sequence[Encoded]) -> TableBatch:
    """Pad tables and texts."""
    index, tables, texts = zip(*examples, strict=True)
    return TableBatch(torch.tensor(index), pad_cells(tables), *shift_targets(texts))


class TableDataModule(BaseDataModule[TableVocabulary]):
    """Tables and texts about them: training reads every text, an evaluation every table once.

    An evaluation compares the output for a table with all its texts; its cross-entropy is that of the first one.

    Args:
        source: reads the files of a split.
        train, val, test: the files of a split, see the source; val defaults to train, test to none.
        root: the folder to which relative file names belong.
        level: of the texts: "words", "characters", "bpe" or "unigram".
        vocab_size: number of subwords, special tokens included.
        tokenizer: one of the user's own, in place of the level's.
        normalizer: of the texts and values, one of `text.normalizers.NORMALIZERS`.
        min_frequency: rarer tokens of texts become <unk>, but not the words of values.
        max_cells: longer tables are truncated to this many cells; their number is logged.
        max_length: longer training texts are truncated to this many tokens; their number is logged.
        delexicalise: kinds or slots of which a placeholder replaces the value in tables and texts, as [name, near]; the
            values are put back after decoding.
        batch_size: texts per batch.
        eval_batch_size: tables in an evaluation; `batch_size` unless given.
        global_batch_size: texts of a training step, over all devices and accumulated batches, in place of
            `batch_size`.
        skip_bad, encoding: of the source, which reads them from here.

    Raises:
        UserError: a number is out of range, or delexicalised texts would be normalized.
    """

    vocabulary_fields = (*BaseDataModule.vocabulary_fields, "normalizer", "delexicalise")

    def __init__(
        self,
        source: TableSource | Callable[[Sequence[Path]], list[TableText]],
        train: str | Sequence[str],
        val: str | Sequence[str] | None = None,
        test: str | Sequence[str] | None = None,
        root: str = ".",
        level: str = "words",
        vocab_size: int | None = None,
        tokenizer: Tokenizer | None = None,
        normalizer: str = "none",
        min_frequency: int = 1,
        max_cells: int | None = None,
        max_length: int | None = None,
        delexicalise: Sequence[str] = (),
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        global_batch_size: int | None = None,
        workers: int | str = 0,
        seed: int = 0,
        skip_bad: bool = False,
        encoding: str | None = None,
    ) -> None:
        super().__init__()
        limits = {"max_cells": max_cells, "max_length": max_length}
        require_positive(**{name: limit for name, limit in limits.items() if limit is not None})
        if delexicalise and normalizer != "none":
            raise UserError(
                f"data.normalizer={normalizer}: would change the placeholders of data.delexicalise; use none"
            )
        self.source = source
        self.files = {"train": train, "val": val or train, "test": test}
        self.root = Path(root)
        self.tokenizer = make_tokenizer(level, vocab_size, tokenizer, min_frequency, levels=("words", "characters"))
        self.normalizer = normalizer
        self.min_frequency = min_frequency
        self.max_cells = max_cells
        self.max_length = max_length
        self.delexicalise = list(delexicalise)
        self.sizes = BatchSizes(batch_size, eval_batch_size, global_batch_size)
        self.workers = workers
        self.seed = seed
        self.skip_bad = skip_bad
        self.encoding = encoding
        self.read: dict[tuple[Path, ...], list[TableText]] = {}
        self.grouped: dict[tuple[Path, ...], Grouped] = {}
        self.sets: dict[tuple[tuple[Path, ...], bool], TableDataset] = {}

    def paths(self, split: str) -> tuple[Path, ...]:
        """Return the files of a split.

        Raises:
            UserError: there is no such split, or it has no files.
        """
        split = canonical_split(split)
        if split not in self.files:
            raise UserError(f"split {split!r}: unknown; choose train, val or test")
        files = self.files[split]
        if not files:
            raise UserError(f"data.{split}: this run has no {split} tables; give data.{split}=FILE or another --split")
        return tuple(self.root / name for name in ([files] if isinstance(files, str) else files))

    @without_garbage_collection()
    def pairs(self, split: str) -> list[TableText]:
        """Return a split's tables with one text each."""
        paths = self.paths(split)
        if paths not in self.read:
            self.read[paths] = self.source(paths)
        return self.read[paths]

    def groups(self, split: str) -> Grouped:
        """Return a split's different tables, and the texts of each."""
        paths = self.paths(split)
        if paths not in self.grouped:
            texts: dict[Table, list[str]] = {}
            for table, text in self.pairs(split):
                texts.setdefault(table, []).append(text)
            self.grouped[paths] = list(texts), list(map(tuple, texts.values()))
        return self.grouped[paths]

    def tables(self, split: str) -> list[Table]:
        """Return a split's different tables, by the index of their examples in an evaluation."""
        return self.groups(split)[0]

    def build_vocabulary(self) -> TableVocabulary:
        """Build the vocabularies of the training tables and texts."""
        self.vocabulary = build_table_vocabulary(
            self.pairs("train"), self.tokenizer, self.normalizer, self.min_frequency, self.delexicalise
        )
        return self.vocabulary

    def dataset(self, split: str) -> TableDataset:
        """Return a split's tables as ids, each once, with their first texts."""
        return self._encode(split, every_text=False)

    @without_garbage_collection()
    def _encode(self, split: str, every_text: bool) -> TableDataset:
        """Return a split's examples: one for each table, or for each text."""
        key = self.paths(split), every_text
        if key not in self.sets:
            vocabulary, (tables, references) = self.require_vocabulary(), self.groups(split)
            limit = self.max_length if every_text else None
            number_of = {table: number for number, table in enumerate(tables)}
            firsts = (TableText(table, texts[0]) for table, texts in zip(tables, references, strict=True))
            pairs = self.pairs(split) if every_text else list(firsts)
            ids = [vocabulary.target.encode(vocabulary.delexicalise_text(*pair)) for pair in pairs]
            self.sets[key] = TableDataset(
                _truncate(list(map(vocabulary.encode, tables)), self.max_cells, f"tables of data.{split}", "max_cells"),
                [number_of[pair.table] for pair in pairs],
                _truncate(ids, limit, f"texts of data.{split}", "max_length"),
            )
        return self.sets[key]

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs."""
        if stage == "fit":
            self._encode("train", every_text=True)
        self.dataset(self.eval_split)

    def inputs(self, split: str) -> list[str]:
        """Return each table as one line, `name[The Eagle], food[French]` or `Al_Horford PTS 17; Boston PTS 103`."""
        return list(map(format_table, self.tables(split)))

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return the texts of each table, by its index."""
        return dict(enumerate(self.groups(split)[1]))

    def restore(self, index: int, text: str) -> str:
        """Return an output for a table of `eval_split` with its values in place of the placeholders."""
        return self.require_vocabulary().restore(self.tables(self.eval_split)[index], text)

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return batches of a split: shuffled buckets of every text, or every table once in order of length."""
        data = self._encode(split, every_text=shuffle)
        lengths = data.measure_lengths()
        return make_bucket_loader(self, data, lengths, collate, self.sizes, shuffle, self.workers, self.seed)


def _truncate(rows: list[list[Any]], limit: int | None, what: str, option: str) -> list[list[Any]]:
    """Return the rows cut to a length; the number of those that are cut is logged."""
    if limit is None:
        return rows
    cut = sum(len(row) > limit for row in rows)
    if cut:
        log.info("data.%s=%d: %d of %d %s truncated", option, limit, cut, len(rows), what)
    return [row[:limit] for row in rows]
