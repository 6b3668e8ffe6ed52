"""The running statistics of two processes that each normalize by their own part of a batch."""

from unittest.mock import Mock

import lightning
import torch
from torch import Tensor, nn

from attendgen.callbacks.batch_norm import SharedStatistics, find_statistics
from helpers.processes import join_group, run_ranks

BATCHES = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))  # step, process, example, channel


def make_task() -> lightning.LightningModule:
    """A task with a layer that is trained and one that is frozen."""
    task = lightning.LightningModule()
    task.trained, task.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4).eval()
    return task


def test_processes_share_the_mean_of_their_statistics() -> None:
    def train(rank: int) -> list[Tensor]:
        join_group(rank)
        task, callback = make_task(), SharedStatistics()
        trainer = Mock(spec=lightning.Trainer)
        callback.on_train_start(trainer, task)
        for step, parts in enumerate(BATCHES):
            task.trained(parts[rank])
            callback.on_train_batch_end(trainer, task, None, None, step)
        return find_statistics(task)

    mean, variance = torch.zeros(4), torch.ones(4)
    for parts in BATCHES:
        mean = 0.9 * mean + 0.1 * parts.mean(dim=1).mean(dim=0)
        variance = 0.9 * variance + 0.1 * parts.var(dim=1).mean(dim=0)
    for found in run_ranks(train):
        torch.testing.assert_close(found, [mean, variance])


def test_only_layers_that_are_trained_and_not_synchronized_have_statistics_of_their_own() -> None:
    task = make_task()
    statistics = find_statistics(task)
    assert [id(part) for part in statistics] == [id(task.trained.running_mean), id(task.trained.running_var)]
    assert not find_statistics(nn.SyncBatchNorm.convert_sync_batchnorm(task))
