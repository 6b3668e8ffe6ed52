"""Sentence pairs from TSV or aligned files: questions and answers, or a language and its translation."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from attendgen.data.batch import PairBatch, pad, shift_targets
from attendgen.data.loader import BatchSizes, make_bucket_loader
from attendgen.data.module import BaseDataModule, canonical_split
from attendgen.data.tsv import Pair, format_columns, read_aligned, read_pairs, require_columns
from attendgen.text.levels import make_tokenizer, split_sides
from attendgen.text.protocol import Tokenizer
from attendgen.text.saved import describe
from attendgen.text.vocabulary import PairVocabulary, Vocabulary
from attendgen.utils.errors import UserError

Files = str | Sequence[str]
Encoded = tuple[int, list[int], list[int]]


class ParallelDataset(Dataset[Encoded]):
    """Pairs as ids."""

    def __init__(self, pairs: Sequence[Pair], vocabulary: PairVocabulary, path: str | Path) -> None:
        self.pairs = pairs
        self.ids = [(vocabulary.source.encode(source), vocabulary.target.encode(target)) for source, target in pairs]
        normalizers = (vocabulary.source.normalizer, vocabulary.target.normalizer)
        for pair, ids in zip(pairs, self.ids, strict=True):
            for side, rule, text, encoded in zip(("source", "target"), normalizers, pair, ids, strict=True):
                if not encoded:
                    raise UserError(f"{path}: nothing is left of {side} {text!r} after data.{side}_normalizer={rule}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Encoded:
        return index, *self.ids[index]


def collate(examples: Sequence[Encoded]) -> PairBatch:
    """Pad sources and targets."""
    index, sources, targets = zip(*examples, strict=True)
    return PairBatch(torch.tensor(index), pad(sources), *shift_targets(targets))


class ParallelDataModule(BaseDataModule[PairVocabulary]):
    """Sentence pairs for training and validation.

    Args:
        train, val, test: a TSV file each, or two aligned files [source, target]; val defaults to train (the toy pairs
            are memorized), test to none.
        root: the folder to which relative file names belong.
        columns: of a TSV's source and target, counted from 1; None takes the first two and checks that they do not hold
            numbers or ids.
        level: "characters", "words", "bpe" or "unigram"; one for both sides, or [source, target], as the next two.
        vocab_size: number of subwords, special tokens included.
        tokenizer: one of the user's own, in place of the level's.
        shared_vocabulary: source and target have one vocabulary, made from both.
        source_normalizer, target_normalizer: of `text.normalizers.NORMALIZERS`.
        min_frequency: rarer tokens become <unk>.
        batch_size: pairs per batch.
        eval_batch_size: pairs in an evaluation; `batch_size` unless given.
        global_batch_size: pairs of a training step, over all devices and accumulated batches, in place of
            `batch_size`.
        skip_bad: leave out unusable lines, and say how many.
        encoding: of the files; None is UTF-8.
    """

    vocabulary_fields = (
        *BaseDataModule.vocabulary_fields,
        "source_normalizer",
        "target_normalizer",
        "shared_vocabulary",
    )

    def __init__(
        self,
        train: Files,
        val: Files | None = None,
        test: Files | None = None,
        root: str = ".",
        level: str | Sequence[str] = "characters",
        vocab_size: int | Sequence[int | None] | None = None,
        tokenizer: Tokenizer | Sequence[Tokenizer | None] | None = None,
        shared_vocabulary: bool = False,
        source_normalizer: str = "none",
        target_normalizer: str = "none",
        min_frequency: int = 1,
        batch_size: int = 32,
        workers: int | str = 0,
        seed: int = 0,
        columns: Sequence[int] | None = None,
        skip_bad: bool = False,
        encoding: str | None = None,
        eval_batch_size: int | None = None,
        global_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        require_columns(columns)
        self.files = {"train": train, "val": val or train, "test": test}
        self.root = Path(root)
        self.columns = columns
        self.skip_bad = skip_bad
        self.encoding = encoding
        sides = (
            split_sides("level", level),
            split_sides("vocab_size", vocab_size),
            split_sides("tokenizer", tokenizer),
        )
        self.tokenizers = [make_tokenizer(*side, min_frequency) for side in zip(*sides, strict=True)]
        self.shared_vocabulary = shared_vocabulary
        self.normalizers = (source_normalizer, target_normalizer)
        self.min_frequency = min_frequency
        self.sizes = BatchSizes(batch_size, eval_batch_size, global_batch_size)
        self.workers = workers
        self.seed = seed
        self.sets: dict[tuple[Path, ...], ParallelDataset] = {}

    def paths(self, split: str) -> tuple[Path, ...]:
        """Return the TSV of a split, or its source and target files.

        Raises:
            UserError: there is no such split, or its files are neither one nor two.
        """
        split = canonical_split(split)
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
            return read_pairs(paths[0], self.columns, self.skip_bad, self.encoding)
        if self.columns is not None:
            raise UserError(
                f"data.columns={format_columns(self.columns)}: {paths[0]} and {paths[1]} are aligned files without "
                f"columns; give data.{split} one TSV, or set data.columns=null"
            )
        return read_aligned(paths[0], paths[1], self.skip_bad, self.encoding)

    def build_vocabulary(self) -> PairVocabulary:
        """Build the vocabularies of source and target from the training pairs.

        Raises:
            UserError: they shall be one, but the two sides have different settings.
        """
        sides = list(zip(*self.read("train"), strict=True))
        settings = list(zip(self.normalizers, self.tokenizers, strict=True))
        if self.shared_vocabulary:
            (normalizer, tokenizer), other = settings
            if (normalizer, describe(tokenizer)) != (other[0], describe(other[1])):
                raise UserError(
                    "data.shared_vocabulary=true: source and target need the same level, size, tokenizer and normalizer"
                )
            sides, settings = [tuple(chain(*sides))], settings[:1]
        built = [
            Vocabulary.build(texts, normalizer=normalizer, min_frequency=self.min_frequency, tokenizer=tokenizer)
            for texts, (normalizer, tokenizer) in zip(sides, settings, strict=True)
        ]
        self.vocabulary = PairVocabulary(built[0], built[-1])
        return self.vocabulary

    def dataset(self, split: str) -> ParallelDataset:
        """Return a split's pairs as ids."""
        paths = self.paths(split)
        if paths not in self.sets:
            vocabulary = self.require_vocabulary()
            self.sets[paths] = ParallelDataset(self.read(split), vocabulary, " and ".join(map(str, paths)))
        return self.sets[paths]

    def inputs(self, split: str) -> list[str]:
        """Return each pair's source."""
        return [source for source, _ in self.dataset(split).pairs]

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return every target of each pair's source in the split, by the pair's index."""
        pairs = self.dataset(split).pairs
        targets: dict[str, list[str]] = {}
        for source, target in pairs:
            targets.setdefault(source, []).append(target)
        return {index: tuple(targets[source]) for index, (source, _) in enumerate(pairs)}

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return batches of a split: shuffled buckets, or every pair once in order of length."""
        data = self.dataset(split)
        lengths = [len(source) + len(target) for source, target in data.ids]
        return make_bucket_loader(self, data, lengths, collate, self.sizes, shuffle, self.workers, self.seed)
