"""Text corpora: a contiguous split of each file, cut into windows of context and continuation."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from jaxtyping import Integer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from attendgen.data.batch import WindowBatch
from attendgen.data.batching import batch_loader, even_batches, evenly, place, require_positive
from attendgen.data.corpus import CorpusCache, count, encode
from attendgen.data.streams import Streams, StreamSampler, collate_pieces
from attendgen.errors import UserError
from attendgen.files import read_text
from attendgen.vocabulary import PAD, SOS, Vocabulary

SPLITS = ("train", "val", "test")


def text_files(root: str | Path) -> list[Path]:
    """The `.txt` files of a folder by name, or the one file that `root` is.

    Raises:
        UserError: there is none.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    files = sorted(root.glob("*.txt"))
    if not files:
        raise UserError(f"{root}: no .txt file; data.root names a text file or a folder of them")
    return files


def split_text(text: str, shares: Sequence[int | float]) -> dict[str, str]:
    """Contiguous parts of a text, in order, by their shares of its length."""
    ends = [round(len(text) * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return {name: text[start:end] for name, start, end in zip(SPLITS, [0, *ends], ends, strict=False)}


class Window(NamedTuple):
    """Which text, where its continuation starts, and how many characters of context it may read."""

    text: int
    start: int
    context: int


class Windows(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Texts as ids, from which windows of (context, inputs, outputs) are cut."""

    def __init__(self, texts: Sequence[Integer[Tensor, " _characters"]], context: int, time: int) -> None:
        self.texts = texts
        self.context = context
        self.time = time

    def __getitem__(self, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        text = self.texts[window.text]
        outputs = text[window.start : window.start + self.time].long()
        context = text[max(0, window.start - window.context) : window.start].long()
        first = context[-1:] if len(context) else torch.tensor([SOS])
        return context, torch.cat([first, outputs[:-1]]), outputs


class WindowSampler(Sampler[list[Window]]):
    """Batches of windows.

    In order (`shuffle` False), window k of a text predicts its characters k*time .. (k+1)*time, so that every
    character is predicted exactly once, the first window's from an empty context. Shuffled, all windows start up to
    `time` characters later, by an amount and in an order that depend on seed and epoch alone, and a share `short` of
    the batches reads contexts of a random length, as short prompts will be. Ranks take turns at the same list, which
    is cut into batches of nearly equal size when shuffled, as many for each.
    """

    def __init__(
        self,
        data: Windows,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        short: float = 0.1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.short = short
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose windows the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def starts(self, offset: int = 0) -> list[range]:
        """Where the windows of each text start, the first of them at `offset`."""
        return [range(offset, len(text), self.data.time) for text in self.data.texts]

    def windows(self, offset: int = 0) -> list[Window]:
        """All windows in order."""
        return [Window(i, start, self.data.context) for i, starts in enumerate(self.starts(offset)) for start in starts]

    def __len__(self) -> int:
        # in training counted at the largest offset, so that every epoch has as many batches
        windows = sum(map(len, self.starts(self.data.time - 1 if self.shuffle else 0)))
        if self.shuffle:
            return even_batches(windows, self.batch_size, self.world) // self.world
        return len(range(self.rank, -(-windows // self.batch_size), self.world))

    def __iter__(self) -> Iterator[list[Window]]:
        if self.shuffle:
            rng = random.Random(f"{self.seed}-{self.epoch}")
            windows = self.windows(rng.randrange(self.data.time))
            rng.shuffle(windows)
            parts = evenly(0, len(windows), len(self) * self.world)
            batches = [windows[part.start : part.stop] for part in parts]
            for i, batch in enumerate(batches):
                if rng.random() < self.short:
                    context = rng.randrange(max(1, self.data.context))
                    batches[i] = [window._replace(context=context) for window in batch]
        else:
            windows = self.windows()
            batches = [windows[i : i + self.batch_size] for i in range(0, len(windows), self.batch_size)]
        yield from batches[self.rank :: self.world]


def collate(examples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> WindowBatch:
    """Pad windows on the right; contexts have at least one column, for recurrences refuse none."""
    context, inputs, outputs = (
        torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True, padding_value=PAD)
        for part in zip(*examples, strict=True)
    )
    if not context.size(1):
        context = context.new_full((len(examples), 1), PAD)
    return WindowBatch(context, inputs, outputs)


class NovelDataModule(lightning.LightningDataModule):
    """Text files, each split contiguously into training, validation and test parts.

    Args:
        root: a text file or a folder of `.txt` files.
        context: characters read before a continuation; of streams, before the first character that a track predicts in
            an evaluation.
        time: characters of continuation, or of a stream's piece.
        streams: give contiguous streams, for models that carry their state from batch to batch, not windows.
        shares: relative sizes of the three parts.
        normalise: see `vocabulary.NORMALISERS`.
        min_frequency: rarer characters become <unk>.
        batch_size: windows a batch, or streams side by side on each device.
        short: share of training batches with shorter contexts.
        cache: a folder where the encoded texts are kept and mapped into memory; null encodes them anew.
    """

    def __init__(
        self,
        root: str,
        context: int = 128,
        time: int = 128,
        streams: bool = False,
        shares: Sequence[int | float] = (90, 5, 5),
        normalise: str = "none",
        min_frequency: int = 3,
        batch_size: int = 32,
        short: float = 0.1,
        cache: str | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_positive(batch_size=batch_size, time=time)
        self.root = root
        self.context = context
        self.time = time
        self.streams = streams
        self.shares = shares
        self.normalise = normalise
        self.min_frequency = min_frequency
        self.batch_size = batch_size
        self.short = short
        self.cache = cache
        self.workers = workers
        self.seed = seed
        self.eval_split = "val"
        self.vocabulary: Vocabulary | None = None
        self.sets: dict[str, Windows] = {}

    def normalised(self, text: str) -> str:
        """A text as the vocabulary will see it, whose length is what windows are cut from."""
        return Vocabulary((), "characters", self.normalise).normalised(text)

    def texts(self, split: str) -> list[str]:
        """A split's part of each file.

        Raises:
            UserError: see `parts`.
        """
        split = "val" if split == "dev" else split
        if split not in SPLITS:
            raise UserError(f"split {split!r}: unknown; choose train, val or test")
        return self.parts()[split]

    def parts(self) -> dict[str, list[str]]:
        """Each split's part of each file.

        Raises:
            UserError: a file is missing, not UTF-8, or shorter than one window in one of its parts.
        """
        if len(self.shares) != len(SPLITS) or min(self.shares) <= 0:
            raise UserError(f"data.shares={list(self.shares)}: give three positive numbers, such as [90,5,5]")
        parts: dict[str, list[str]] = {name: [] for name in SPLITS}
        for path in text_files(self.root):
            cut = split_text(self.normalised(read_text(path)), self.shares)
            self.require({name: len(part) for name, part in cut.items()}, path)
            for name, part in cut.items():
                parts[name].append(part)
        return parts

    def require(self, lengths: dict[str, int], path: Path) -> None:
        """Check that a file's parts can be used.

        Raises:
            UserError: one is empty, or the training part shorter than one window.
        """
        needed = self.time + 1 if self.streams else self.context + self.time + 1
        if lengths["train"] < needed:
            raise UserError(
                f"{path}: {sum(lengths.values())} characters are too few: the training part has {lengths['train']}, "
                f"one {'piece' if self.streams else 'window'} needs {needed}; lower data.context and data.time"
            )
        for name, length in lengths.items():
            if not length:
                raise UserError(f"{path}: the {name} part is empty; see data.shares")

    def kept(self) -> CorpusCache | None:
        """What the cache holds of these files."""
        settings = (self.normalise, list(self.shares))
        return None if self.cache is None else CorpusCache(self.cache, text_files(self.root), settings)

    def build_vocabulary(self) -> Vocabulary:
        """The characters of the training parts."""
        kept = self.kept()
        counts = kept.counts(lambda: count(self.texts("train"))) if kept else count(self.texts("train"))
        self.vocabulary = Vocabulary.of_counts(counts, "characters", self.normalise, self.min_frequency)
        return self.vocabulary

    def encode(self, texts: Sequence[str]) -> Windows:
        """Windows over any texts, normalised already."""
        vocabulary = self.vocabulary or self.build_vocabulary()
        return Windows([encode(text, vocabulary) for text in texts], self.context, self.time)

    def dataset(self, split: str) -> Windows:
        """A split's windows.

        Raises:
            UserError: see `texts`.
        """
        if split not in self.sets:
            name, kept = "val" if split == "dev" else split, self.kept()
            if kept is None or name not in SPLITS:
                self.sets[split] = self.encode(self.texts(name))
            else:
                vocabulary = self.vocabulary or self.build_vocabulary()
                parts = kept.parts(
                    vocabulary, lambda: {part: self.encode(texts).texts for part, texts in self.parts().items()}
                )
                for path, *texts in zip(text_files(self.root), *parts.values(), strict=True):
                    self.require(dict(zip(parts, map(len, texts), strict=True)), path)
                self.sets[split] = Windows(parts[name], self.context, self.time)
        return self.sets[split]

    def coverage(self, split: str) -> dict[str, int]:
        """How many characters a split has, and how many of them the vocabulary lacks."""
        texts = self.dataset(split).texts
        assert self.vocabulary is not None
        unknown = self.vocabulary.unknown
        return {
            "characters": sum(len(text) for text in texts),
            "unknown_characters": 0 if unknown is None else sum(int((text == unknown).sum()) for text in texts),
        }

    def read_files(self, paths: Sequence[str | Path]) -> None:
        """Make the split "text" of whole files.

        Raises:
            UserError: a file is missing, empty or not UTF-8.
        """
        vocabulary = self.vocabulary or self.build_vocabulary()
        texts = []
        for path in paths:
            text = vocabulary.normalised(read_text(path))
            if not text:
                raise UserError(f"{path}: empty file, or nothing left after data.normalise={vocabulary.normalise}")
            texts.append(text)
        self.sets["text"] = self.encode(texts)

    def setup(self, stage: str | None = None) -> None:
        """Encode the splits that a stage needs."""
        for split in ("train", "val") if stage == "fit" else (self.eval_split,):
            self.dataset(split)

    def loader(self, data: Windows, shuffle: bool = False) -> DataLoader[Any]:
        """Batches of windows or of streams' pieces: for training, or every character once in order."""
        if self.streams:
            streams = Streams(data.texts)
            pieces = StreamSampler(streams, self.batch_size, self.time, self.context, self.seed, shuffle, *place(self))
            return batch_loader(self, streams, pieces, collate_pieces, shuffle, self.workers, self.seed)
        batches = WindowSampler(data, self.batch_size, self.seed, shuffle, self.short, *place(self))
        return batch_loader(self, data, batches, collate, shuffle, self.workers, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.dataset("train"), shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.dataset(self.eval_split))
