"""Batches of examples of similar length, and the split of work between processes."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class BucketSampler(Sampler[list[int]]):
    """Batches of indices whose lengths are close, in an order that depends on seed and epoch alone.

    Examples are shuffled, sorted by length within pools of `pool` batches, cut into batches, and the batches shuffled.
    Of several processes, each takes every `world`-th batch of the same list. The shuffled list is split into batches of
    nearly equal size, the same number for each process, so that every example is seen once per epoch.

    Args:
        lengths: one number per example.
        batch_size: maximum number of examples per batch.
        shuffle: false yields all examples sorted by length (`cut_evaluation`).
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 50,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.pool = pool
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return count_even_batches(len(self.lengths), self.batch_size, self.world) // self.world
        return -(-len(cut_evaluation(len(self.lengths), self.batch_size, self.world)) // self.world)

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(len(self.lengths), generator=generator)
            cut = list(order.tensor_split(len(self) * self.world)) if len(self) else []
            batches = []
            for pool in (cut[i : i + self.pool] for i in range(0, len(cut), self.pool)):
                examples = torch.cat(pool)
                examples = examples[self.lengths[examples].argsort(stable=True)]
                batches += examples.split([len(batch) for batch in pool])
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        else:
            order = self.lengths.argsort(stable=True)
            cuts = cut_evaluation(len(order), self.batch_size, self.world)
            batches = [order[part.start : part.stop] for part in cuts]
        for batch in batches[self.rank :: self.world]:
            yield batch.tolist()


def count_even_batches(examples: int, batch_size: int, world: int = 1) -> int:
    """Return the fewest batches that hold all examples and divide by `world` processes; 0 if there are too few."""
    batches = -(-examples // (batch_size * world)) * world
    return batches if batches <= examples else 0


def cut_evaluation(examples: int, batch_size: int, world: int = 1) -> list[range]:
    """Return batches that hold every example once, of which process i of `world` takes the i-th and every `world`-th.

    Several processes have equally many batches of nearly equal size. If there are too few examples, some have one batch
    less, or none; the length of their sampler is still that of the others. Lightning would leave out a validation of
    length 0, and with it the exchange of scores that the other processes wait for.
    """
    if world == 1:
        return [range(start, min(start + batch_size, examples)) for start in range(0, examples, batch_size)]
    batches = -(-examples // (batch_size * world)) * world
    return split_evenly(0, examples, min(batches, examples))


def split_evenly(start: int, end: int, parts: int) -> list[range]:
    """Return contiguous ranges from `start` to `end` whose lengths differ by at most one."""
    length = end - start
    return [range(start + length * k // parts, start + length * (k + 1) // parts) for k in range(parts)]
