"""Texts as contiguous streams: each row of a batch continues the same row of the previous batch."""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from attendgen.data.batch import StreamBatch
from attendgen.data.samplers import split_evenly
from attendgen.utils.special_tokens import PAD, SOS


class Chunk(NamedTuple):
    """Characters `start` to `end` of all texts, predicted from `predict` on; `reset` starts a new state."""

    start: int
    end: int
    predict: int
    reset: bool


class Streams(Dataset[tuple[Tensor, Tensor, bool]]):
    """Texts as ids, concatenated, read as chunks of (inputs, outputs, reset)."""

    def __init__(self, texts: Sequence[Integer[Tensor, " _characters"]]) -> None:
        self.texts = texts
        self.starts = [0, *accumulate(len(text) for text in texts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def cut(self, start: int, end: int) -> Int[Tensor, " characters"]:
        """Return characters of the concatenated texts."""
        parts = [torch.empty(0, dtype=torch.long)]
        while start < end:
            text = bisect_right(self.starts, start) - 1
            begin = self.starts[text]
            parts.append(self.texts[text][start - begin : end - begin].long())
            start = self.starts[text + 1]
        return torch.cat(parts)

    def __getitem__(self, chunk: Chunk) -> tuple[Tensor, Tensor, bool]:
        if chunk.start == chunk.end:
            return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), chunk.reset
        read = self.cut(max(0, chunk.start - 1), chunk.end)
        outputs = read[len(read) - (chunk.end - chunk.start) :].clone()
        inputs = outputs.new_full(outputs.shape, SOS)
        inputs[len(inputs) - len(read) + 1 :] = read[:-1]
        first = bisect_right(self.starts, chunk.start - 1)
        for begin in self.starts[first:]:
            if begin >= chunk.end:
                break
            inputs[begin - chunk.start] = SOS  # a text does not continue the previous one
        outputs[: max(0, chunk.predict - chunk.start)] = PAD
        return inputs, outputs, chunk.reset


class StreamSampler(Sampler[list[Chunk]]):
    """Batches of chunks of `seq_len` characters, each row of which continues the row of the previous batch.

    In training (`shuffle`) all texts are one stream, split into as many tracks of equal length as there are rows on all
    ranks; in each epoch they start up to `seq_len` characters later, by an amount that depends on seed and epoch alone.
    Each rank reads its own tracks, all ranks the same number of chunks.

    Otherwise every character is predicted exactly once: texts are split into about as many tracks as there are rows,
    each read from `context_len` characters before the first one that it predicts, and ranks share the batches of
    tracks.
    """

    def __init__(
        self,
        data: Streams,
        batch_size: int,
        seq_len: int,
        context_len: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.context_len = context_len
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose chunks the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        if not self.shuffle:
            return sum(self.count_chunks(group) for group in self.groups())
        # counted at the largest offset, so that every epoch has as many batches
        return (len(self.data) - self.seq_len + 1) // (self.batch_size * self.world) // self.seq_len

    def __iter__(self) -> Iterator[list[Chunk]]:
        yield from self.iterate_training() if self.shuffle else self.iterate_once()

    def iterate_training(self) -> Iterator[list[Chunk]]:
        """Yield an epoch's batches of this rank."""
        offset = random.Random(f"{self.seed}-{self.epoch}").randrange(self.seq_len)
        length = (len(self.data) - offset) // (self.batch_size * self.world)
        first = self.rank * self.batch_size
        starts = [offset + track * length for track in range(first, first + self.batch_size)]
        for k in range(len(self)):
            cuts = (start + k * self.seq_len for start in starts)
            yield [Chunk(start, start + self.seq_len, start, k == 0) for start in cuts]

    def groups(self) -> list[list[range]]:
        """Return the tracks of each of this rank's batches: the characters that a row predicts, the longest first."""
        rows = max(self.batch_size * self.world, len(self.data.texts))
        length = max(-(-len(self.data) // rows), 4 * self.context_len, 1)
        tracks = self.split_tracks(length, round)
        while len(tracks) > rows:  # one more row would take as long as all the others
            length += length // 20 + 1
            tracks = self.split_tracks(length, round)
        if len(tracks) < self.world:  # no rank stays idle
            tracks = self.split_tracks(max(len(self.data) // self.world, 1), math.ceil)
        count = max(self.world, -(-len(tracks) // self.batch_size))
        parts = split_evenly(0, len(tracks), count)[self.rank :: self.world]
        return [tracks[part.start : part.stop] for part in parts]

    def split_tracks(self, length: int, whole: Callable[[float], int]) -> list[range]:
        """Split each text into parts of about one length, the longest first; `whole` rounds a number of parts."""
        found = []
        for begin, end in pairwise(self.data.starts):
            found += split_evenly(begin, end, max(1, whole((end - begin) / length)))
        return sorted(found, key=len, reverse=True)

    def find_start(self, track: range) -> int:
        """Return the position from which a track is read."""
        text = self.data.starts[bisect_right(self.data.starts, track.start) - 1]
        return max(text, track.start - self.context_len)

    def count_chunks(self, group: list[range]) -> int:
        """Return the number of batches of a group of tracks."""
        return max(-(-(track.stop - self.find_start(track)) // self.seq_len) for track in group)

    def iterate_once(self) -> Iterator[list[Chunk]]:
        """Yield this rank's batches; every character is predicted once."""
        for group in self.groups():
            for k in range(self.count_chunks(group)):
                batch = []
                for track in group:
                    start = min(self.find_start(track) + k * self.seq_len, track.stop)
                    end = min(start + self.seq_len, track.stop)
                    batch.append(Chunk(start, end, track.start, k == 0))
                yield batch


def collate_chunks(examples: Sequence[tuple[Tensor, Tensor, bool]]) -> StreamBatch:
    """Pad chunks on the right; a row whose track has ended is all padding."""
    inputs, outputs, reset = zip(*examples, strict=True)
    before, after = (pad_sequence(list(part), batch_first=True, padding_value=PAD) for part in (inputs, outputs))
    return StreamBatch(before, after, torch.tensor(reset))
