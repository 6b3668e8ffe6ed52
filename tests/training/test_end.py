"""A training is validated at its end, says how it ended, and continues from there."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest

from attendgen.evaluation.evaluate import evaluate
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.status import read_history, read_status
from attendgen.utils.errors import Interrupted
from helpers.checkpoints import assert_same, read

Train = Callable[..., Path]
QUICK = ("epochs=-1", "decoding.max_length=4", "callbacks.samples=null")
EPOCH = 4  # steps


def read_fit(folder: Path) -> dict:
    return json.loads((folder / "metrics_fit.json").read_text())


@pytest.mark.parametrize(
    ("settings", "steps", "ended"),
    [
        pytest.param(["steps=6", "validate_every=1"], 6, "complete (2 epochs, 6 steps)", marks=pytest.mark.slow),
        pytest.param(["steps=2", "validate_every=1"], 2, "complete (1 epoch, 2 steps)", marks=pytest.mark.slow),
        (["steps=6", "validate_every=5"], 6, "complete (2 epochs, 6 steps)"),
        pytest.param(["epochs=3", "validate_every=2"], 12, "complete (3 epochs, 12 steps)", marks=pytest.mark.slow),
        (["steps=50", "trainer.max_time={seconds: 0}"], 0, "complete (time is up, 0 epochs, 0 steps)"),
    ],
)
def test_the_last_step_is_validated(train: Train, settings: list[str], steps: int, ended: str) -> None:
    folder = train(
        "toy_chat", *QUICK, "model.hidden=8", "monitor.metric=val/cross_entropy", "monitor.mode=min", *settings
    )
    assert str(read_status(folder)) == ended
    assert ended in (folder / "train.log").read_text()
    fit = read_fit(folder)
    assert fit["steps"] == steps
    if steps:
        assert read(folder, "best")["global_step"] == read(folder)["global_step"] == steps, "it falls in every epoch"
        assert fit["val/cross_entropy"] == pytest.approx(evaluate(folder)["cross_entropy"], rel=1e-5)


def test_time_that_is_up_ends_a_training_with_a_validation(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_up(_: object, trainer: lightning.Trainer) -> None:
        trainer.should_stop = trainer.global_step == 5

    monkeypatch.setattr("lightning.pytorch.callbacks.Timer._check_time_remaining", is_up)
    folder = train("toy_chat", *QUICK, "steps=50", "validate_every=9", "trainer.max_time={hours: 1}")
    assert str(read_status(folder)) == "complete (time is up, 2 epochs, 5 steps)"
    assert read(folder, "best")["global_step"] == 5


def test_a_run_that_stops_early_says_why(train: Train) -> None:
    folder = train("toy_chat", *QUICK, "epochs=9", "validate_every=1", "callbacks.early_stopping.patience=2")
    ended = "stopped early: no better val/exact_match for 2 validations"
    assert str(read_status(folder)) == ended, "nothing of four letters is an answer"
    assert ended in (folder / "train.log").read_text()
    assert read_fit(folder)["epochs"] == 3
    run_hydra([f"resume={folder}", "callbacks.early_stopping.patience=9", "epochs=4"])
    assert str(read_status(folder)) == "complete (4 epochs, 16 steps)"


def test_patience_begins_after_the_warm_up(train: Train) -> None:
    schedule = ("task/schedule=warmup_cosine", "task.schedule.warmup=12", "steps=80")
    folder = train("toy_chat", *QUICK, *schedule, "validate_every=1", "callbacks.early_stopping.patience=2")
    assert "no better val/exact_match for 2 validations" in str(read_status(folder))
    assert read_fit(folder)["epochs"] == 12 // EPOCH + 2


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (["steps=6", "validate_every=3"], "steps=11"),
        pytest.param(["steps=5", "validate_every=1"], "steps=7", marks=pytest.mark.slow),
        pytest.param(["steps=8", "validate_every=1"], "steps=10", marks=pytest.mark.slow),
        pytest.param(["epochs=2", "validate_every=3"], "epochs=3", marks=pytest.mark.slow),
    ],
)
def test_a_finished_run_of_more_steps_is_a_run_of_so_many(train: Train, first: list[str], more: str) -> None:
    """Bit for bit, also if the first end lies within an epoch."""
    settings = (*QUICK, "model.dropout=0.2")
    straight = train("toy_chat", *settings, *first[1:], more, name="straight")
    folder = train("toy_chat", *settings, *first, name="finished")
    run_hydra([f"resume={folder}", more])
    for part in ("global_step", "epoch", "state_dict", "optimizer_states"):
        assert_same(read(straight)[part], read(folder)[part], part)
    assert str(read_status(folder)) == str(read_status(straight))
    assert [session["changes"] for session in read_history(folder)][1:] == [[more]]


def test_a_complete_run_that_is_resumed_stays_as_it_is(train: Train) -> None:
    folder = train("toy_chat", *QUICK, "steps=3")
    before = read_fit(folder)
    run_hydra([f"resume={folder}"])
    after = read_fit(folder)
    assert {k: v for k, v in after.items() if "seconds" not in k} == {
        k: v for k, v in before.items() if "seconds" not in k
    }
    assert read_status(folder).state == "complete"


def test_the_seconds_of_all_sessions_add_up(train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every step takes a second; the run is interrupted twice."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("attendgen.training.checkpoint_io.time", clock)

    def tick(_: object, trainer: lightning.Trainer, *rest: object) -> None:
        clock.now += 1
        if trainer.global_step in (2, 6):  # the step before has this number
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", tick)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train("toy_chat", *QUICK, "steps=11")
    for step in (3, 7):
        status = read_status(folder)
        assert status.state == "not finished"
        assert f"SIGINT after step {step}" in status.reason
        assert f"resume with: attendgen train resume={folder}" in (folder / "train.log").read_text()
        clock.now += 100  # between the sessions
        if step == 3:
            with pytest.raises(Interrupted):
                run_hydra([f"resume={folder}"])
    run_hydra([f"resume={folder}"])
    assert read_fit(folder)["fit_seconds"] == 11
    assert [session["step"] for session in read_history(folder)] == [0, 3, 7]
    assert read_history(folder)[-1]["fit_seconds"] == 11
