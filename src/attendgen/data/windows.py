"""Windows of text: a context and its continuation."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Integer
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from attendgen.data.batch import WindowBatch
from attendgen.data.samplers import count_even_batches, cut_evaluation, split_evenly
from attendgen.utils.special_tokens import PAD, SOS


class Window(NamedTuple):
    """The text, the start of the continuation, and the maximum length of the context, in characters."""

    text: int
    start: int
    context: int


class Windows(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Texts as ids, read as windows of (context, inputs, outputs)."""

    def __init__(self, texts: Sequence[Integer[Tensor, " _characters"]], context_len: int, seq_len: int) -> None:
        self.texts = texts
        self.context_len = context_len
        self.seq_len = seq_len

    def __getitem__(self, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        text = self.texts[window.text]
        outputs = text[window.start : window.start + self.seq_len].long()
        context = text[max(0, window.start - window.context) : window.start].long()
        first = context[-1:] if len(context) else torch.tensor([SOS])
        return context, torch.cat([first, outputs[:-1]]), outputs


class WindowSampler(Sampler[list[Window]]):
    """Batches of windows.

    In order (`shuffle` false), window k of a text predicts its characters k*seq_len .. (k+1)*seq_len, so that every
    character is predicted exactly once, the first window's from an empty context. Shuffled, all windows start up to
    `seq_len` characters later, by an amount and in an order that depend on seed and epoch alone, and with probability
    `short_context_prob` a batch has contexts of a random length, like short prompts. Ranks take turns at the same list,
    which is split into batches of nearly equal size, the same number for each rank; in order, one rank has batches of
    `batch_size` (`cut_evaluation`).
    """

    def __init__(
        self,
        data: Windows,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        short_context_prob: float = 0.1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.short_context_prob = short_context_prob
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose windows the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def starts(self, offset: int = 0) -> list[range]:
        """Return the starts of each text's windows, the first at `offset`."""
        return [range(offset, len(text), self.data.seq_len) for text in self.data.texts]

    def windows(self, offset: int = 0) -> list[Window]:
        """Return all windows in order."""
        return [
            Window(i, start, self.data.context_len) for i, starts in enumerate(self.starts(offset)) for start in starts
        ]

    def __len__(self) -> int:
        # in training counted at the largest offset, so that every epoch has as many batches
        windows = sum(map(len, self.starts(self.data.seq_len - 1 if self.shuffle else 0)))
        if self.shuffle:
            return count_even_batches(windows, self.batch_size, self.world) // self.world
        return -(-len(cut_evaluation(windows, self.batch_size, self.world)) // self.world)

    def __iter__(self) -> Iterator[list[Window]]:
        if self.shuffle:
            rng = random.Random(f"{self.seed}-{self.epoch}")
            windows = self.windows(rng.randrange(self.data.seq_len))
            rng.shuffle(windows)
            parts = split_evenly(0, len(windows), len(self) * self.world)
            batches = [windows[part.start : part.stop] for part in parts]
            for i, batch in enumerate(batches):
                if rng.random() < self.short_context_prob:
                    context = rng.randrange(max(1, self.data.context_len))
                    batches[i] = [window._replace(context=context) for window in batch]
        else:
            windows = self.windows()
            cuts = cut_evaluation(len(windows), self.batch_size, self.world)
            batches = [windows[part.start : part.stop] for part in cuts]
        yield from batches[self.rank :: self.world]


def collate(examples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> WindowBatch:
    """Pad windows on the right; contexts have at least one column, because recurrences refuse empty inputs."""
    context, inputs, outputs = (
        torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True, padding_value=PAD)
        for part in zip(*examples, strict=True)
    )
    if not context.size(1):
        context = context.new_full((len(examples), 1), PAD)
    return WindowBatch(context, inputs, outputs)
