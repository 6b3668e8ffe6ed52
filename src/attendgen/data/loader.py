"""Batches of examples of similar length, and the loader that all data modules share."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attendgen.data.batch import Batch, StepTotals, count_targets
from attendgen.data.samplers import BucketSampler
from attendgen.data.workers import require_workers, share_cores
from attendgen.utils.errors import UserError


class BatchSizes:
    """The number of examples per batch.

    Args:
        batch_size: of each process in training.
        eval_batch_size: of each process in an evaluation; `batch_size` unless given.
        global_batch_size: of a whole training step, over all processes and accumulated batches, in place of
            `batch_size`.

    Raises:
        UserError: one is not a whole number from 1.
    """

    def __init__(
        self, batch_size: int, eval_batch_size: int | None = None, global_batch_size: int | None = None
    ) -> None:
        given = {"eval_batch_size": eval_batch_size, "global_batch_size": global_batch_size}
        require_positive(batch_size=batch_size, **{name: size for name, size in given.items() if size is not None})
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.global_batch_size = global_batch_size

    def choose(self, train: bool, world: int = 1, accumulated: int = 1) -> int:
        """Return the number of examples in a batch of one process.

        Args:
            world: number of processes.
            accumulated: number of batches per training step in each of them.

        Raises:
            UserError: the batch of a whole training step cannot be divided among them.
        """
        if not train:
            return self.eval_batch_size or self.batch_size
        if self.global_batch_size is None:
            return self.batch_size
        if self.global_batch_size % (world * accumulated):
            raise UserError(
                f"data.global_batch_size={self.global_batch_size}: does not divide by {world} devices x {accumulated} "
                "accumulated batches; change it, trainer.devices or trainer.accumulate_grad_batches"
            )
        return self.global_batch_size // (world * accumulated)


class ResumableSampler(Sampler[Any]):
    """The batches of a sampler from the `start`-th of its epoch on; `len` counts the whole epoch."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler  # where Lightning looks for `set_epoch`
        self.start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.sampler, self.start, None)


class Loader(DataLoader[Any]):
    """A loader that can resume within an epoch: its state is the epoch and the number of batches it has given.

    Args:
        batches: a sampler of batches, with an `epoch`.
        group: number of batches per training step, whose totals each batch receives; 0 adds no totals.
    """

    def __init__(self, data: Dataset[Any], batches: Any, group: int = 0, **options: Any) -> None:
        self.group = group
        self.given = 0
        self.resumed: dict[str, int] = {}
        super().__init__(data, batch_sampler=ResumableSampler(batches), **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # no batch is fetched before the first one is requested: the epoch may be set until then
        sampler = self.batch_sampler
        assert isinstance(sampler, ResumableSampler)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(sampler.sampler.epoch)
        continues = self.resumed.get("epoch") == sampler.sampler.epoch
        self.given = sampler.start = self.resumed["batches"] if continues else 0
        self.resumed = {}
        for batch in self.with_totals(super().__iter__()):
            self.given += 1
            yield batch

    def with_totals(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Add to each batch the totals of its group."""
        if not self.group:
            return batches
        return (batch for group in split_chunks(batches, self.group) for batch in share_totals(group))

    def state_dict(self) -> dict[str, int]:
        """Return the position of the loader; Lightning puts it into checkpoints."""
        assert isinstance(self.batch_sampler, ResumableSampler)
        return {"epoch": self.batch_sampler.sampler.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume from a position at the next iteration, if that is in the same epoch."""
        self.resumed = state


def split_chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items, the last of which may be shorter."""
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def share_totals(group: Sequence[Batch]) -> list[Batch]:
    """Give each batch of a group the totals of the whole group."""
    counts = [count_targets(batch.outputs) for batch in group]
    totals = StepTotals(*(torch.stack(numbers).sum() for numbers in zip(*counts, strict=True)))
    return [batch._replace(totals=totals) for batch in group]


def make_batch_loader(
    module: lightning.LightningDataModule,
    data: Dataset[Any],
    batches: Any,
    collate: Callable[[Any], Any],
    train: bool,
    workers: int | str = 0,
    seed: int = 0,
) -> Loader:
    """Return a data module's loader of the batches that a sampler chooses.

    Args:
        workers: see `choose_workers`.

    Raises:
        UserError: there is no batch, as when several processes train on few examples; or see `choose_workers`.
    """
    number = choose_workers(module, workers)
    if len(batches) == 0:
        raise UserError("data.batch_size: fewer batches than processes; lower it, or use fewer devices")
    return Loader(
        data,
        batches,
        group=get_accumulated(module) if train else 0,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),  # starting a loader must not disturb the global stream
        num_workers=number,
        persistent_workers=number > 0,
        pin_memory=uses_gpu(module),
    )


def make_bucket_loader(
    module: lightning.LightningDataModule,
    data: Dataset[Any],
    lengths: Sequence[int],
    collate: Callable[[Any], Any],
    sizes: BatchSizes,
    shuffle: bool,
    workers: int | str = 0,
    seed: int = 0,
) -> Loader:
    """Return a data module's loader of shuffled buckets, or of every example once in order of length.

    Raises:
        UserError: see `make_batch_loader`.
    """
    rank, world = get_rank(module)
    sampler = BucketSampler(lengths, choose_batch_size(module, sizes, shuffle), seed, shuffle, rank=rank, world=world)
    return make_batch_loader(module, data, sampler, collate, shuffle, workers, seed)


def get_rank(module: lightning.LightningDataModule) -> tuple[int, int]:
    """Return the number of this process, and the number of processes."""
    return (module.trainer.global_rank, module.trainer.world_size) if module.trainer else (0, 1)


def get_accumulated(module: lightning.LightningDataModule) -> int:
    """Return the number of batches per training step in each process."""
    return module.trainer.accumulate_grad_batches if module.trainer else 1


def choose_batch_size(module: lightning.LightningDataModule, sizes: BatchSizes, train: bool) -> int:
    """Return the number of examples in a batch of this process.

    Raises:
        UserError: see `BatchSizes.choose`.
    """
    return sizes.choose(train, get_rank(module)[1], get_accumulated(module))


def uses_gpu(module: lightning.LightningDataModule) -> bool:
    """Return whether batches go to a GPU; pinning them for a trainer on the CPU would open a context on the GPU."""
    return module.trainer is not None and module.trainer.strategy.root_device.type == "cuda"


def choose_workers(module: lightning.LightningDataModule, workers: int | str) -> int:
    """Return the number of processes that read batches.

    Args:
        workers: their number, or "auto": a share of the cores, at most `MOST_WORKERS`, for each process that trains
            on a GPU, and none on a CPU, whose cores compute the training.

    Raises:
        UserError: it is neither.
    """
    require_workers(workers)
    if isinstance(workers, int):
        return workers
    devices = module.trainer.num_devices if module.trainer else 1
    return share_cores(devices) if uses_gpu(module) else 0


def require_positive(least: int = 1, **fields: object) -> None:
    """Check settings of a data module.

    Raises:
        UserError: one is not a whole number from `least`.
    """
    for name, value in fields.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"data.{name}={value}: expected a whole number from {least}")


def require_probability(**fields: object) -> None:
    """Check settings of a data module.

    Raises:
        UserError: one is not a number from 0 to 1.
    """
    for name, value in fields.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(f"data.{name}={value}: expected a probability from 0 to 1")
