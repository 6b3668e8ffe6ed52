"""Sentence pairs from a TSV: questions and answers, or a language and its translation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from attendgen.data.batch import PairBatch, pad, shifted
from attendgen.data.batching import BucketSampler, batch_loader, require_positive
from attendgen.errors import UserError
from attendgen.files import read_text
from attendgen.vocabulary import Level, PairVocabulary, Vocabulary

Pair = tuple[str, str]
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
        train, val, test: TSV files; val defaults to train (the toy pairs are learnt by heart), test to none.
        level: "characters" or "words".
        source_normalise, target_normalise: see `vocabulary.NORMALISERS`.
        min_frequency: rarer symbols become <unk>.
        batch_size: pairs a batch.
    """

    def __init__(
        self,
        train: str,
        val: str | None = None,
        test: str | None = None,
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
        self.level = level
        self.normalise = (source_normalise, target_normalise)
        self.min_frequency = min_frequency
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.eval_split = "val"
        self.vocabulary: PairVocabulary | None = None
        self.sets: dict[str, PairData] = {}

    def file(self, split: str) -> str:
        """The TSV of a split.

        Raises:
            UserError: there is no such split.
        """
        split = "val" if split == "dev" else split
        if split not in self.files:
            raise UserError(f"split {split!r}: unknown; choose train, val or test")
        path = self.files[split]
        if path is None:
            raise UserError(f"data.{split}: this run has no {split} pairs; give data.{split}=FILE or another --split")
        return path

    def build_vocabulary(self) -> PairVocabulary:
        """The symbols of the training pairs, source and target apart."""
        sides = zip(*read_pairs(self.file("train")), strict=True)
        built = (
            Vocabulary.build(texts, self.level, normalise, self.min_frequency)
            for texts, normalise in zip(sides, self.normalise, strict=True)
        )
        self.vocabulary = PairVocabulary(*built)
        return self.vocabulary

    def dataset(self, split: str) -> PairData:
        """A split's pairs as ids."""
        path = self.file(split)
        if path not in self.sets:
            vocabulary = self.vocabulary or self.build_vocabulary()
            self.sets[path] = PairData(read_pairs(path), vocabulary, path)
        return self.sets[path]

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
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = BucketSampler(lengths, self.batch_size, self.seed, shuffle, rank=rank, world=world)
        return batch_loader(data, sampler, collate, self.workers, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.eval_split)
