"""A training never waits for the GPU except in the steps that are logged, so that the host is ahead of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from attendgen.callbacks.ema import EMA
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.gradient_norm import GradientNorm
from attendgen.callbacks.step_seed import StepSeed
from attendgen.callbacks.throughput import Throughput
from helpers.families import make_training, move

pytestmark = pytest.mark.gpu

BY_LENGTH = pytest.mark.xfail(reason="the lengths of padded texts are read by the host", raises=RuntimeError)
FAMILIES = [
    "captioner",
    "captioner, pixels",
    "captioner, transformer",
    "captioner, moving baseline",
    "captioner, leave one out",
    "seq2seq, bahdanau",
    "seq2seq, luong",
    "seq2seq, luong, input feeding",
    "seq2seq, transformer",
    "lm, lstm",
    "lm, attention window",
    "lm, ngrams",
    "lm, textgenerate",
    "lm, transformer",
    pytest.param("seq2seq, one-way encoder", marks=BY_LENGTH),
    pytest.param("lm, context", marks=BY_LENGTH),
    pytest.param("lm, windows", marks=BY_LENGTH),
]


@contextmanager
def forbid_waiting() -> Iterator[None]:
    """Make every operation for which the host must wait for the GPU an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_does_not_wait(name: str, dtype: torch.dtype | None, device: str) -> None:
    task, batch = move(make_training(name, dropout=0.3), device)

    def step(index: int) -> None:
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False):
            loss = task.training_step(batch, index)
        loss.backward()

    step(0)  # libraries make their plans and workspaces
    with forbid_waiting():
        step(1)


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "name", ["captioner", "captioner, moving baseline", "seq2seq, luong, input feeding", "lm, ngrams"]
)
def test_a_training_with_callbacks_does_not_wait(name: str, precision: str, device: str) -> None:
    task, batch = make_training(name, dropout=0.3)
    del task.log  # there is a trainer now
    allow = Allow()
    trainer = lightning.Trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,
        max_steps=6,
        gradient_clip_val=1.0,
        callbacks=[Forbid(), StepSeed(1), FiniteLoss(), GradientNorm(), Throughput(), EMA(), allow],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=100,
    )
    trainer.fit(task, DataLoader([batch] * 6, batch_size=None))
    assert allow.steps == 6


def test_the_check_finds_a_wait(device: str) -> None:
    number = torch.ones((), device=device)
    with pytest.raises(RuntimeError, match="synchronizing"), forbid_waiting():
        number.item()
