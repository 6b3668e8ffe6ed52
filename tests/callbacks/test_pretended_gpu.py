"""Callbacks on tensors that report to be on a GPU: the host does not wait in steps that are not logged."""

from typing import Any
from unittest.mock import NonCallableMock

import lightning
import pytest
import torch

from attendgen.callbacks.ema import EMA
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.throughput import Throughput
from helpers.families import make_training
from helpers.pretended_gpu import pretend, pretend_training, pretended_gpu


def make_trainer(step: int) -> Any:
    """Return a trainer of one process, without a scaler, that logs every tenth step."""
    plain = NonCallableMock(scaler=None)
    return NonCallableMock(
        lightning.Trainer, global_step=step, log_every_n_steps=10, world_size=1, precision_plugin=plain
    )


@pytest.mark.parametrize("make", [FiniteLoss, Throughput, EMA])
def test_steps_that_are_not_logged_do_not_wait(make: Any) -> None:
    training = make_training("lm, lstm")
    with pretended_gpu() as record:
        task, batch = pretend_training(training)
        callback, loss = make(), pretend(torch.ones(()))
        task.requires_grad_(True)
        if isinstance(callback, EMA):
            callback.on_fit_start(make_trainer(0), task)
        for step in range(1, 4):
            trainer = make_trainer(step)
            record.launches.clear()
            callback.on_train_batch_end(trainer, task, {"loss": loss}, batch, step)
    assert not record.waits
    assert record.launches.total() < 20  # the average is one operation, however many weights there are
    assert (record.launches.total() == 0) == (make is FiniteLoss), "losses are kept, and looked at in logged steps"


def test_one_operation_updates_the_average_of_all_weights() -> None:
    training = make_training("captioner")
    with pretended_gpu() as record:
        task, _ = pretend_training(training)
        task.requires_grad_(True)
        average = EMA()
        average.on_fit_start(make_trainer(0), task)
        for step in (1, 2):
            record.launches.clear()
            average.on_train_batch_end(make_trainer(step), task, {}, None, step)
            assert record.launches == {"_foreach_lerp_": 1}
        average.on_train_batch_end(make_trainer(step), task, {}, None, step)  # of accumulated batches: no step was made
    assert record.launches == {"_foreach_lerp_": 1}
    assert not record.waits
    assert len(average.averaged) > 10
