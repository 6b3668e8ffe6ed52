"""Batches of examples of similar length, and the loader that all data modules share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attendgen.errors import UserError


class BucketSampler(Sampler[list[int]]):
    """Batches of indices whose lengths are close, in an order that depends on seed and epoch alone.

    Examples are shuffled, sorted by length within pools of `pool` batches, cut into batches, and the batches shuffled.
    With several processes each takes every `world`-th batch of the same list; the list is cut to equal counts a rank,
    and the examples left out differ from epoch to epoch.

    Args:
        lengths: one number an example.
        shuffle: False gives the examples sorted by length, every one of them.
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

    @property
    def sampler(self) -> "BucketSampler":
        """Itself: where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = -(-len(self.lengths) // self.batch_size)
        return batches // self.world if self.shuffle else len(range(self.rank, batches, self.world))

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(len(self.lengths), generator=generator)
            pools = order.split(self.pool * self.batch_size)
            batches = [
                batch
                for pool in pools
                for batch in pool[self.lengths[pool].argsort(stable=True)].split(self.batch_size)
            ]
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
            batches = batches[: len(self) * self.world]
        else:
            batches = list(self.lengths.argsort(stable=True).split(self.batch_size))
        for batch in batches[self.rank :: self.world]:
            yield batch.tolist()


def batch_loader(
    data: Dataset[Any],
    batches: Sampler[Any],
    collate: Callable[[Any], Any],
    workers: int = 0,
    seed: int = 0,
) -> DataLoader[Any]:
    """A loader of the batches that a sampler chooses.

    Raises:
        UserError: there is no batch, as when several processes share few examples.
    """
    if len(batches) == 0:  # type: ignore[arg-type]
        raise UserError("data.batch_size: fewer batches than processes; lower it, or use fewer devices")
    return DataLoader(
        data,
        batch_sampler=batches,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),  # starting a loader must not disturb the global stream
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def bucket_loader(
    module: lightning.LightningDataModule,
    data: Dataset[Any],
    lengths: Sequence[int],
    collate: Callable[[Any], Any],
    batch_size: int,
    shuffle: bool,
    workers: int = 0,
    seed: int = 0,
) -> DataLoader[Any]:
    """A data module's loader of shuffled buckets, or in order of length and every example once.

    Raises:
        UserError: see `batch_loader`.
    """
    rank, world = place(module)
    sampler = BucketSampler(lengths, batch_size, seed, shuffle, rank=rank, world=world)
    return batch_loader(data, sampler, collate, workers, seed)


def place(module: lightning.LightningDataModule) -> tuple[int, int]:
    """This process's number and how many there are."""
    return (module.trainer.global_rank, module.trainer.world_size) if module.trainer else (0, 1)


def require_positive(**fields: int) -> None:
    """Check settings of a data module.

    Raises:
        UserError: one is below 1.
    """
    for name, value in fields.items():
        if value < 1:
            raise UserError(f"data.{name}={value}: must be at least 1")
