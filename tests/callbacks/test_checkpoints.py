"""A signal ends the step, saves, and says how to resume."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest

from attendgen.hydra_app.app import run_hydra
from attendgen.utils.errors import Interrupted
from helpers.checkpoints import assert_same, read


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_says_how_to_resume(
    train: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: int,
) -> None:
    def interrupt(_: object, trainer: lightning.Trainer, *rest: object) -> None:
        if trainer.global_step == 6:
            os.kill(os.getpid(), number)

    settings = ("epochs=4", "model.dropout=0.2", "validate_every=1", "decoding.max_length=4", "callbacks.samples=null")
    straight = train("toy_chat", *settings, name="straight")
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", interrupt)
    with pytest.raises(Interrupted) as stopped:
        train("toy_chat", *settings, name="halted")
    monkeypatch.undo()
    halted = tmp_path / "halted"
    assert stopped.value.number == number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert f"attendgen train resume={halted}" in capfd.readouterr().err
    assert read(halted)["global_step"] == 7, "the step is ended first"
    run_hydra([f"resume={halted}"])
    assert_same(read(straight)["state_dict"], read(halted)["state_dict"])
