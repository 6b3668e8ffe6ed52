"""Sentence pairs from a TSV: questions and answers, or a language and its translation."""

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


def read_pairs(path: str | Path) -> list[Pair]:
    """The source and target of each line of a TSV; blank lines are passed over.

    Raises:
        UserError: the file is missing or empty, or a line has no tab or an empty side.
    """
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        source, tab, target = line.partition("\t")
        if not tab:
            raise UserError(f"{path}: line {number}: no tab; expected SOURCE<tab>TARGET")
        target = target.partition("\t")[0]  # further columns are comments
        for side, text in (("source", source), ("target", target)):
            if not text.strip():
                raise UserError(f"{path}: line {number}: empty {side}")
        pairs.append((source.strip(), target.strip()))
    if not pairs:
        raise UserError(f"{path}: no sentence pairs; expected lines of SOURCE<tab>TARGET")
    return pairs


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
    ) -> None:
        super().__init__()
        require_positive(batch_size=batch_size)
        self.files = {"train": train, "val": val or train, "test": test}
        self.root = Path(root)
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
        """A split's pairs."""
        paths = self.paths(split)
        return read_pairs(*paths) if len(paths) == 1 else read_aligned(*paths)

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
