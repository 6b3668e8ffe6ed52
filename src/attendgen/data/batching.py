"""Batches of examples of similar length, and the loader that all data modules share."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attendgen.data.batch import Batch, Totals, count
from attendgen.errors import UserError


class BucketSampler(Sampler[list[int]]):
    """Batches of indices whose lengths are close, in an order that depends on seed and epoch alone.

    Examples are shuffled, sorted by length within pools of `pool` batches, cut into batches, and the batches shuffled.
    With several processes each takes every `world`-th batch of the same list. The shuffled list is cut into batches of
    nearly equal size, as many for each process, so that every example is seen once an epoch.

    Args:
        lengths: one number an example.
        batch_size: the most examples of a batch.
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

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle:
            return even_batches(len(self.lengths), self.batch_size, self.world) // self.world
        return len(range(self.rank, -(-len(self.lengths) // self.batch_size), self.world))

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
            batches = list(self.lengths.argsort(stable=True).split(self.batch_size))
        for batch in batches[self.rank :: self.world]:
            yield batch.tolist()


def even_batches(examples: int, batch_size: int, world: int = 1) -> int:
    """The fewest batches that hold all examples and that `world` processes share evenly; none if they are too few."""
    batches = -(-examples // (batch_size * world)) * world
    return batches if batches <= examples else 0


def evenly(start: int, end: int, parts: int) -> list[range]:
    """Contiguous ranges from `start` to `end` whose lengths differ by at most one."""
    length = end - start
    return [range(start + length * k // parts, start + length * (k + 1) // parts) for k in range(parts)]


class Resumable(Sampler[Any]):
    """The batches of a sampler from the `start`-th of its epoch on; `len` counts the whole epoch."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler  # where Lightning looks for `set_epoch`
        self.start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.sampler, self.start, None)


class Loader(DataLoader[Any]):
    """A loader that can go on within an epoch: its state is the epoch and how many batches of it have been given.

    Args:
        batches: a sampler of batches, with an `epoch`.
        group: batches that make one training step; each is given the totals of its group.
    """

    def __init__(self, data: Dataset[Any], batches: Any, group: int = 0, **options: Any) -> None:
        self.group = group
        self.given = 0
        self.resumed: dict[str, int] = {}
        super().__init__(data, batch_sampler=Resumable(batches), **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # nothing is fetched before the first batch is asked for: the epoch may still be set until then
        place = self.batch_sampler
        assert isinstance(place, Resumable)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(place.sampler.epoch)
        goes_on = self.resumed.get("epoch") == place.sampler.epoch
        self.given = place.start = self.resumed["batches"] if goes_on else 0
        self.resumed = {}
        for batch in self.with_totals(super().__iter__()):
            self.given += 1
            yield batch

    def with_totals(self, batches: Iterable[Any]) -> Iterable[Any]:
        """The batches, each with the totals of the group that it belongs to."""
        if not self.group:
            return batches
        return (batch for group in chunks(batches, self.group) for batch in share_totals(group))

    def state_dict(self) -> dict[str, int]:
        """Where the loader is; Lightning puts it into checkpoints."""
        assert isinstance(self.batch_sampler, Resumable)
        return {"epoch": self.batch_sampler.sampler.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from such a state at the next iteration, if that is in the same epoch."""
        self.resumed = state


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last of which may be shorter."""
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def share_totals(group: Sequence[Batch]) -> list[Batch]:
    """Give each batch of a group the totals of all."""
    counts = [count(batch.outputs) for batch in group]
    totals = Totals(*(torch.stack(numbers).sum() for numbers in zip(*counts, strict=True)))
    return [batch._replace(totals=totals) for batch in group]


def batch_loader(
    module: lightning.LightningDataModule,
    data: Dataset[Any],
    batches: Any,
    collate: Callable[[Any], Any],
    train: bool,
    workers: int = 0,
    seed: int = 0,
) -> Loader:
    """A data module's loader of the batches that a sampler chooses.

    Raises:
        UserError: there is no batch, as when several processes share few examples.
    """
    if len(batches) == 0:
        raise UserError("data.batch_size: fewer batches than processes; lower it, or use fewer devices")
    accumulated = module.trainer.accumulate_grad_batches if module.trainer else 1
    return Loader(
        data,
        batches,
        group=accumulated if train else 0,
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
) -> Loader:
    """A data module's loader of shuffled buckets, or in order of length and every example once.

    Raises:
        UserError: see `batch_loader`.
    """
    rank, world = place(module)
    sampler = BucketSampler(lengths, batch_size, seed, shuffle, rank=rank, world=world)
    return batch_loader(module, data, sampler, collate, shuffle, workers, seed)


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
