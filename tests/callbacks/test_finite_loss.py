"""A loss that is not finite stops the training and keeps the last good checkpoint."""

from collections.abc import Callable
from pathlib import Path

import lightning
import pytest

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
