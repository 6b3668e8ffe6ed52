"""Progress of a training in a file: plain lines; curves of short runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from attendgen.callbacks.log_interval import LogInterval
from attendgen.callbacks.progress import Progress
from attendgen.hydra_app.app import run_hydra

TINY = ["experiment=toy_chat", "trainer=smoke", "callbacks.samples=null", "logger=none", "decoding.max_length=4"]


def test_training_in_a_file_prints_a_line_per_validation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_hydra([*TINY, f"hydra.run.dir={tmp_path}/run"])
    outcome = capfd.readouterr()
    assert "\r" not in outcome.out + outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("epoch 1, step 2, ")]
    assert "train/loss" in line
    assert "val/exact_match" in line


def test_terminal_has_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert Progress().is_enabled
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert Progress().is_disabled


def test_scores_of_an_earlier_validation_are_not_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.started = 0.0
    progress.get_metrics = lambda *_: {"train/loss": 1.5, "val/bleu": 2.5}  # type: ignore[method-assign]
    trainer = cast("Any", SimpleNamespace(is_global_zero=True, current_epoch=0, global_step=7))
    print_line = getattr(Progress.print_line, "__wrapped__", Progress.print_line)  # without the check of types
    print_line(progress, trainer, None)
    print_line(progress, trainer, None, validated=True)
    between, after = capsys.readouterr().out.splitlines()
    assert between.endswith("train/loss 1.5")
    assert after.endswith("train/loss 1.5, val/bleu 2.5")


@pytest.mark.parametrize(("steps", "expected"), [(12, 2), (3, 1), (40, 20), (1000, 20), (float("inf"), 20)])
def test_short_runs_log_more_often(steps: float, expected: int) -> None:
    trainer = cast("Any", SimpleNamespace(estimated_stepping_batches=steps, log_every_n_steps=20))
    start = LogInterval.on_train_start
    getattr(start, "__wrapped__", start)(LogInterval(), trainer, None)  # without the check of types
    assert trainer.log_every_n_steps == expected
