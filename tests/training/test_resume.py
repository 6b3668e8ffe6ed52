"""A resumed run ends where an uninterrupted one does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
import yaml

from attendgen.callbacks.ema import CURRENT
from attendgen.evaluation.evaluate import evaluate
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.folder import hold_run
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from helpers.checkpoints import assert_same, read
from helpers.errors import refusal
from helpers.runs import SharedRuns

Train = Callable[..., Path]
KillAt = Callable[[int | None], None]
QUICK = ["decoding.max_length=4", "callbacks.samples=null"]


class Killed(BaseException):
    """Stands for a SIGKILL: nothing runs after it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> KillAt:
    """Make training die within the step after so many steps; None lets it live."""

    def at(step: int | None) -> None:
        def die(_: object, trainer: lightning.Trainer, *rest: object) -> None:
            if trainer.global_step == step:
                raise Killed

        monkeypatch.setattr("attendgen.callbacks.gradient_norm.GradientNorm.on_before_optimizer_step", die)

    return at


COMMON = ["+trainer.limit_val_batches=1", "callbacks.last.minutes=0", "callbacks.samples=null"]


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        pytest.param("toy_chat", ["epochs=4", "model.dropout=0.2", "validate_every=2"], marks=pytest.mark.slow),
        pytest.param(
            "toy_chat",
            ["epochs=4", "model.dropout=0.2", "callbacks=ema", "trainer.accumulate_grad_batches=2"],
            marks=pytest.mark.slow,
        ),
        ("novels_lstm", ["steps=9", "model.dropout=0.2", "data.batch_size=128"]),
        pytest.param(
            "novels_transformer", ["steps=9", "model.dropout=0.2", "data.batch_size=128"], marks=pytest.mark.slow
        ),
        pytest.param("novels", ["steps=9", "model.dropout=0.2", "data.batch_size=128"], marks=pytest.mark.slow),
        pytest.param("flickr8k_soft", ["steps=9", "data.batch_size=1"], marks=pytest.mark.slow),
        pytest.param(
            "flickr8k_hard", ["steps=9", "data.batch_size=1", "task/estimator=leave_one_out"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    train: Train, kill_at: KillAt, experiment: str, settings: list[str]
) -> None:
    """Bit for bit: weights, optimizer, schedule, best score; killed before, at and after the end of an epoch."""
    kill_at(None)
    straight = train(experiment, *settings, *COMMON, name="straight")
    wanted = read(straight)
    epoch_length = -(-wanted["global_step"] // (wanted["epoch"] + 1))
    for step in sorted({epoch_length - 1, epoch_length, epoch_length + 1}):
        kill_at(step)
        with pytest.raises(Killed):
            train(experiment, *settings, *COMMON, name=f"halted{step}")
        kill_at(None)
        halted = straight.with_name(f"halted{step}")
        run_hydra([f"resume={halted}"])
        found = read(halted)
        for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
            assert_same(wanted[part], found[part], f"{step}/{part}")
        if "callbacks=ema" in settings:
            assert_same(wanted[CURRENT], found[CURRENT], f"{step}/{CURRENT}")
            assert all(not torch.equal(wanted["state_dict"][name], value) for name, value in wanted[CURRENT].items())
        best = [Run.find(folder).load_model().state_dict() for folder in (straight, halted)]
        assert_same(*best, "best")
        summaries = [json.loads((folder / "metrics_fit.json").read_text()) for folder in (straight, halted)]
        scores = [{k: v for k, v in summary.items() if "seconds" not in k} for summary in summaries]
        assert scores[0] == scores[1]


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    train: Train, kill_at: KillAt, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("epochs=1", "model.dropout=0.2", *QUICK)
    kill_at(0)
    with pytest.raises(Killed):
        train("toy_chat", *settings, name="halted")
    kill_at(None)
    straight = train("toy_chat", *settings, name="straight")
    halted = straight.with_name("halted")
    run_hydra([f"resume={halted}"])
    assert "starts over" in capfd.readouterr().err
    assert_same(read(straight)["state_dict"], read(halted)["state_dict"])


def test_the_previous_checkpoint_replaces_a_broken_last_one(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    folder = train("toy_chat", "epochs=3", "model.dropout=0.2", *QUICK)
    last = folder / "checkpoints" / "last.ckpt"
    wanted, whole = read(folder), last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    run_hydra([f"resume={folder}"])
    assert "last.ckpt: broken" in capfd.readouterr().err
    assert_same(wanted["state_dict"], read(folder)["state_dict"])
    for path in (last, last.with_name("previous.ckpt")):
        path.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"last\.ckpt: broken"):
        run_hydra([f"resume={folder}"])


def test_a_moved_run_is_resumed_in_its_new_folder(train: Train, tmp_path: Path) -> None:
    folder = train("toy_chat", "epochs=1", *QUICK)
    moved = folder.rename(tmp_path / "elsewhere")
    run_hydra([f"resume={moved}", "epochs=2"])
    assert not folder.exists()
    assert read(moved)["epoch"] == 1


def test_a_moved_run_keeps_its_best_checkpoint(train: Train, tmp_path: Path) -> None:
    monitor = ["monitor.metric=val/cross_entropy", "monitor.mode=max"]  # best at first, then worse and worse
    folder = train("toy_chat", "epochs=1", "validate_every=1", *monitor, *QUICK)
    best, first = read(folder, "best"), json.loads((folder / "metrics_fit.json").read_text())
    moved = folder.rename(tmp_path / "elsewhere")
    run_hydra([f"resume={moved}", "epochs=3"])
    assert not folder.exists()
    assert_same(best["state_dict"], read(moved, "best")["state_dict"])
    last = json.loads((moved / "metrics_fit.json").read_text())
    assert last["val/cross_entropy"] == first["val/cross_entropy"]
    states = read(moved)["callbacks"]
    (state,) = (state for state in states.values() if "best_model_path" in state)
    assert state["best_model_path"] == str(moved / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.hidden=12", "last.ckpt: weights of another model: size mismatch"),
        ("data.val=nowhere.tsv", "nowhere.tsv: No such file"),
    ],
)
def test_a_resumed_training_that_fails_at_once_leaves_the_run_as_it_was(
    runs: SharedRuns, tmp_path: Path, change: str, message: str
) -> None:
    folder = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    before = {path: path.read_bytes() for path in files}
    assert message in refusal(run_hydra, [f"resume={folder}", change])
    assert [path.name for path, content in before.items() if path.read_bytes() != content] == []


def test_a_run_is_trained_by_one_process_at_a_time(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attendgen.runs.folder.PATIENCE", 0.0)
    folder = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    before = (folder / "history.json").read_bytes()
    with hold_run(folder):
        assert refusal(run_hydra, [f"resume={folder}"]).startswith(f"{folder}: another process trains this run")
    assert (folder / "history.json").read_bytes() == before
    run_hydra([f"resume={folder}"])


def test_a_cosine_follows_more_steps_when_resumed(train: Train) -> None:
    folder = train("shapes", "epochs=2", "steps=-1", "task.schedule.steps=2", "task.schedule.warmup=0")
    halted = read(folder)
    assert halted["lr_schedulers"][0]["_last_lr"] == [pytest.approx(0.0, abs=1e-12)], "the cosine has ended"
    run_hydra([f"resume={folder}", "epochs=4", "task.schedule.steps=4"])
    resumed = read(folder)
    assert resumed["global_step"] == 4
    weight = "model.output.weight"
    assert not torch.equal(resumed["state_dict"][weight], halted["state_dict"][weight]), "training goes on above zero"
    assert yaml.safe_load((folder / "config.yaml").read_text())["task"]["schedule"]["steps"] == 4
    written = (folder / "train.log").read_text()
    assert "resumed: epochs=4 task.schedule.steps=4" in written
    assert "; 4 steps in " in written


def test_a_resumed_run_can_select_by_another_metric(train: Train) -> None:
    folder = train("toy_chat", "epochs=1", "validate_every=1", "decoding.max_length=8", "callbacks.samples=null")
    run_hydra([f"resume={folder}", "epochs=2", "monitor.metric=val/bleu"])
    scores = json.loads((folder / "metrics_fit.json").read_text())
    evaluated = evaluate(folder)
    assert scores["val/bleu"] == pytest.approx(evaluated["bleu"])
    assert yaml.safe_load((folder / "config.yaml").read_text())["callbacks"]["best"]["monitor"] == "${monitor.metric}"


def test_the_best_checkpoint_of_a_resumed_run_keeps_its_own_settings(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["epochs=2", "validate_every=1", "model/attention=scaled_dot", "task.optimizer.lr=0.02"]
    folder = train("toy_chat", *settings, *QUICK)
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    changes = ["model.attention.scaled=false", "model.dropout=0.3", "task.optimizer.lr=0.0", "data.batch_size=7"]
    run_hydra([f"resume={folder}", "epochs=3", *changes])
    (folder / "checkpoints" / "best.ckpt").write_bytes(best)  # it would be another one, had the score risen
    run, alone = Run.find(folder), Run.find(folder / "checkpoints" / "best.ckpt")
    assert run.config.model == alone.config.model
    assert (run.config.model.attention.scaled, run.config.model.dropout) == (True, 0.0)
    assert run.config.data.batch_size == 7, "settings on which the weights do not depend are the last ones"
    scores = [evaluate(one, out=tmp_path) for one in (run, alone)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert "trained with other settings than config.yaml's" in capfd.readouterr().err
    assert Run.find(folder).override(["model.dropout=0.1"]).model.dropout == 0.1
    assert Run.find(folder, trained=False).config.model.dropout == 0.3, "resuming goes on with the last settings"


def test_a_checkpoint_is_not_resumed(train: Train, tmp_path: Path) -> None:
    folder = train("toy_chat", "trainer=smoke", *QUICK)
    with pytest.raises(UserError, match="give the run's directory, not a checkpoint"):
        run_hydra([f"resume={folder / 'checkpoints' / 'last.ckpt'}"])
