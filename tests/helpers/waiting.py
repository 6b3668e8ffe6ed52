"""Code and trainings on a GPU in which every operation for which the host must wait is an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from attendgen.callbacks.ema import EMA
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.gradient_norm import GradientNorm
from attendgen.callbacks.step_seed import StepSeed
from attendgen.callbacks.throughput import Throughput
from helpers.families import make_training

STEPS = 6


@contextmanager
def forbid_waiting() -> Iterator[None]:
    """Make every operation for which the host must wait for the GPU an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Forbid(lightning.Callback):
    """Forbids to wait from the beginning of a step, if it is the first callback; the first steps may."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if batch_idx > 1 else "default")


class Allow(lightning.Callback):
    """Allows to wait at the end of a step, if it is the last callback."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.steps += 1
        torch.cuda.set_sync_debug_mode("default")


def train_without_waiting(name: str, **settings: Any) -> int:
    """Train a family for some steps, none of which is logged; return their number.

    Args:
        settings: of the trainer.
    """
    task: Any
    task, batch = make_training(name, dropout=0.3)
    del task.log  # there is a trainer now
    allow = Allow()
    trainer = lightning.Trainer(
        accelerator="gpu",
        devices=1,
        max_steps=STEPS,
        gradient_clip_val=1.0,
        callbacks=[Forbid(), StepSeed(1), FiniteLoss(), GradientNorm(), Throughput(), EMA(), allow],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=100,
        **settings,
    )
    trainer.fit(task, DataLoader([batch] * STEPS, batch_size=None))
    return allow.steps
