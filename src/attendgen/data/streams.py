"""Texts as contiguous streams: each row of a batch goes on where the same row of the batch before it ended."""

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
from attendgen.data.batching import evenly
from attendgen.vocabulary import PAD, SOS


class Piece(NamedTuple):
    """Characters `start` to `end` of all texts as one, predicted from `predict` on; `fresh` if nothing is carried."""

    start: int
    end: int
    predict: int
    fresh: bool


class Streams(Dataset[tuple[Tensor, Tensor, bool]]):
    """Texts as ids, laid end to end, from which pieces of (inputs, outputs, fresh) are cut."""

    def __init__(self, texts: Sequence[Integer[Tensor, " _characters"]]) -> None:
        self.texts = texts
        self.starts = [0, *accumulate(len(text) for text in texts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def cut(self, start: int, end: int) -> Int[Tensor, " characters"]:
        """Characters of all texts as one."""
        parts = [torch.empty(0, dtype=torch.long)]
        while start < end:
            text = bisect_right(self.starts, start) - 1
            begin = self.starts[text]
            parts.append(self.texts[text][start - begin : end - begin].long())
            start = self.starts[text + 1]
        return torch.cat(parts)

    def __getitem__(self, piece: Piece) -> tuple[Tensor, Tensor, bool]:
        outputs = self.cut(piece.start, piece.end)
        inputs = outputs.new_full(outputs.shape, SOS)
        if len(inputs):
            before = self.cut(max(0, piece.start - 1), piece.end - 1)
            inputs[len(inputs) - len(before) :] = before
        first = bisect_right(self.starts, piece.start - 1)
        for begin in self.starts[first:]:
            if begin >= piece.end:
                break
            inputs[begin - piece.start] = SOS  # a text does not go on from the one before it
        outputs[: max(0, piece.predict - piece.start)] = PAD
        return inputs, outputs, piece.fresh


class StreamSampler(Sampler[list[Piece]]):
    """Batches of pieces, `time` characters long, that follow one another row by row.

    In training (`shuffle`) all texts are one stream, cut into as many tracks of equal length as there are rows on all
    ranks; they start up to `time` characters later in an epoch, by an amount that depends on seed and epoch alone. Each
    rank reads its own tracks, all ranks equally many pieces.

    Otherwise every character is predicted exactly once: texts are cut into about as many tracks as there are rows, each
    read from `warm` characters before the first one that it predicts, and the ranks share out batches of tracks.
    """

    def __init__(
        self,
        data: Streams,
        batch_size: int,
        time: int,
        warm: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.time = time
        self.warm = warm
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose pieces the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        if not self.shuffle:
            return sum(self.pieces(group) for group in self.groups())
        # counted at the largest offset, so that every epoch has as many batches
        return (len(self.data) - self.time + 1) // (self.batch_size * self.world) // self.time

    def __iter__(self) -> Iterator[list[Piece]]:
        yield from self.training() if self.shuffle else self.once()

    def training(self) -> Iterator[list[Piece]]:
        """An epoch's batches for this rank."""
        offset = random.Random(f"{self.seed}-{self.epoch}").randrange(self.time)
        length = (len(self.data) - offset) // (self.batch_size * self.world)
        first = self.rank * self.batch_size
        starts = [offset + track * length for track in range(first, first + self.batch_size)]
        for k in range(len(self)):
            cuts = (start + k * self.time for start in starts)
            yield [Piece(start, start + self.time, start, k == 0) for start in cuts]

    def groups(self) -> list[list[range]]:
        """The tracks of each of this rank's batches: the characters that a row predicts, the longest first."""
        rows = max(self.batch_size * self.world, len(self.data.texts))
        length = max(-(-len(self.data) // rows), 4 * self.warm, 1)
        tracks = self.tracks(length, round)
        while len(tracks) > rows:  # a row too many would take as long as all the others
            length += length // 20 + 1
            tracks = self.tracks(length, round)
        if len(tracks) < self.world:  # no rank stays idle
            tracks = self.tracks(max(len(self.data) // self.world, 1), math.ceil)
        count = max(self.world, -(-len(tracks) // self.batch_size))
        parts = evenly(0, len(tracks), count)[self.rank :: self.world]
        return [tracks[part.start : part.stop] for part in parts]

    def tracks(self, length: int, whole: Callable[[float], int]) -> list[range]:
        """Each text in parts of about one length, the longest first; `whole` makes a number of parts."""
        found = []
        for begin, end in pairwise(self.data.starts):
            found += evenly(begin, end, max(1, whole((end - begin) / length)))
        return sorted(found, key=len, reverse=True)

    def begin(self, track: range) -> int:
        """Where a track is read from."""
        text = self.data.starts[bisect_right(self.data.starts, track.start) - 1]
        return max(text, track.start - self.warm)

    def pieces(self, group: list[range]) -> int:
        """How many batches a group of tracks takes."""
        return max(-(-(track.stop - self.begin(track)) // self.time) for track in group)

    def once(self) -> Iterator[list[Piece]]:
        """This rank's batches, every character predicted once."""
        for group in self.groups():
            for k in range(self.pieces(group)):
                batch = []
                for track in group:
                    start = min(self.begin(track) + k * self.time, track.stop)
                    end = min(start + self.time, track.stop)
                    batch.append(Piece(start, end, track.start, k == 0))
                yield batch


def collate_pieces(examples: Sequence[tuple[Tensor, Tensor, bool]]) -> StreamBatch:
    """Pad pieces on the right; a row whose track has ended is all padding."""
    inputs, outputs, fresh = zip(*examples, strict=True)
    before, after = (pad_sequence(list(part), batch_first=True, padding_value=PAD) for part in (inputs, outputs))
    return StreamBatch(before, after, torch.tensor(fresh))
