"""A loss that is not finite stops the training and keeps the last good checkpoint."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import lightning
import pytest
import torch
from lightning import Trainer

from attendgen.callbacks.finite_loss import OVERFLOWS, FiniteLoss
from attendgen.utils.errors import DivergedError
from helpers.checkpoints import read


def test_a_diverged_run_stops_and_keeps_its_last_good_checkpoint(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def poison(_: object, trainer: lightning.Trainer, task: lightning.LightningModule, *rest: object) -> None:
        if trainer.global_step == 11:
            next(task.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", poison)
    with pytest.raises(DivergedError, match=r"step 13, batch 0 of epoch 3"):
        train("toy_chat", "epochs=9", "data.batch_size=5", "callbacks.last.minutes=0", name="halted")
    assert read(tmp_path / "halted")["global_step"] == 12, "the step with the infinite loss is not saved"


def test_hard_attention_that_diverges_says_so(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def poison(_: object, trainer: lightning.Trainer, task: lightning.LightningModule, *rest: object) -> None:
        next(task.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", poison)
    with pytest.raises(DivergedError, match="step 2, batch 1 of"):
        train("shapes", "task=captioning_hard", "model.inference_attention=argmax", "data.batch_size=2", "steps=3")


class Scaled:
    """Calls the callback as a trainer with a scaler of gradients does, once for each loss."""

    def __init__(self) -> None:
        self.callback = FiniteLoss()
        task = lightning.LightningModule()
        task.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.trainer = Mock(spec=Trainer, global_step=0, world_size=1, current_epoch=0, log_every_n_steps=99)
        self.trainer.lightning_module = task
        self.trainer.precision_plugin.scaler = object()

    def step(self, loss: float) -> None:
        """End a batch with this loss."""
        batch = self.trainer.global_step
        self.trainer.global_step += 1
        self.callback.on_train_batch_end(self.trainer, self.trainer.lightning_module, torch.tensor(loss), None, batch)


def test_a_scaler_may_skip_some_steps_but_not_twenty_in_a_row() -> None:
    training = Scaled()
    for loss in [1.0, *[float("inf")] * (OVERFLOWS - 1), 2.0, *[float("nan")] * (OVERFLOWS - 1)]:
        training.step(loss)
    with pytest.raises(DivergedError, match=rf"step {OVERFLOWS + 2}, batch {OVERFLOWS + 1} of"):
        training.step(float("inf"))


def test_a_weight_that_is_not_finite_ends_a_scaled_training_at_once() -> None:
    training = Scaled()
    training.step(float("inf"))
    training.trainer.lightning_module.weight.data[1] = float("nan")
    with pytest.raises(DivergedError, match="step 1, batch 0 of"):
        training.step(float("nan"))
