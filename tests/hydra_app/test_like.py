"""A new training with the settings of a saved run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from attendgen.config.trust import VARIABLE
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.layout import read_overrides
from attendgen.runs.run import Run
from helpers.checkpoints import assert_same, read
from helpers.errors import refusal
from helpers.runs import SharedRuns

Train = Callable[..., Path]
QUICK = ["decoding.max_length=4", "callbacks.samples=null"]


def mark_files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def make_like(run: Path, folder: Path, *changes: str) -> Path:
    """Train like a run into a new folder, and check that the run's own stays as it is."""
    saved = run if run.is_dir() else run.parents[1]
    before = mark_files(saved)
    run_hydra([f"like={run}", *changes, f"hydra.run.dir='{folder}'"])
    assert mark_files(saved) == before
    return folder


@pytest.mark.parametrize(
    ("experiment", "settings"),
    [
        ("toy_chat", ["epochs=2", "model.dropout=0.2", "seed=3", "model/attention=additive", "callbacks=ema"]),
        pytest.param("novels_lstm", ["steps=3", "model.dropout=0.2", "data.batch_size=128"], marks=pytest.mark.slow),
    ],
)
def test_a_run_without_changes_has_the_same_numbers(
    train: Train, tmp_path: Path, experiment: str, settings: list[str]
) -> None:
    """Bit for bit."""
    first = train(experiment, *settings, "callbacks.samples=null", "+trainer.limit_val_batches=1")
    second = make_like(first, tmp_path / "new one")
    for name in ("last", "best"):
        for part in ("global_step", "epoch", "state_dict", "optimizer_states"):
            assert_same(read(first, name).get(part), read(second, name).get(part), f"{name}/{part}")
    kept = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (first, second)]
    assert kept[1].pop("like") == str(first)
    assert kept[0].pop("like") is None
    for config in kept:
        config["paths"].pop("run")
        config["paths"].pop("outputs")
    assert kept[0] == kept[1]
    assert read_overrides(first).items() <= read_overrides(second).items()


@pytest.mark.slow
def test_changes_are_those_of_a_resumed_run(runs: SharedRuns, tmp_path: Path) -> None:
    first = shutil.copytree(runs("toy_chat"), tmp_path / "it's (a) run")
    changes = [
        "seed=2",
        "model.hidden=16",
        "task.decoding.max_length=3",
        "data.max_source=40",
        "trainer.detect_anomaly=true",
    ]
    changes = [change for change in changes if not change.startswith("data.max_source")]
    second = make_like(first, tmp_path / "new", *changes)
    config = Run.find(second).config
    assert (config.seed, config.model.hidden, config.task.decoding.max_length) == (2, 16, 3)
    assert config.trainer.detect_anomaly, "a parameter that the run's config does not name"
    assert config.decoding.max_length == Run.find(first).config.decoding.max_length
    assert (read_overrides(second)["seed"], read_overrides(second)["experiment"]) == ("2", "toy_chat")
    command = json.loads((second / "environment.json").read_text())["command"]
    assert command == ["attendgen", "train", f"like={first}", *changes]
    written = yaml.safe_load((second / "history.json").read_text())
    assert written[0]["changes"][-len(changes) :] == changes


@pytest.mark.slow
def test_settings_of_a_resumed_run_are_the_last_ones(train: Train, tmp_path: Path, capfd) -> None:
    first = train("toy_chat", "trainer=smoke", *QUICK)
    run_hydra([f"resume={first}", "model.dropout=0.5", "trainer.max_epochs=3"])
    second = make_like(first, tmp_path / "new", "trainer.max_epochs=1")
    assert Run.find(second).config.model.dropout == 0.5
    assert f"{first}: resumed with other settings than at its start" in capfd.readouterr().err
    third = make_like(first / "checkpoints" / "best.ckpt", tmp_path / "newer", "trainer.max_epochs=1")
    assert Run.find(third).config.model.dropout == 0.0


def test_the_folder_is_named_after_the_experiment(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = runs("toy_chat")
    run_hydra([f"like={first / 'checkpoints' / 'best.ckpt'}"])
    run_hydra([f"like={first}", "paths.outputs=elsewhere"])
    assert len(list((tmp_path / "outputs" / "toy_chat").glob("*/checkpoints/best.ckpt"))) == 1
    (other,) = (tmp_path / "elsewhere" / "toy_chat").iterdir()
    assert Run.find(other).config.paths.outputs == str(tmp_path / "elsewhere")


@pytest.mark.slow
def test_a_sweep_varies_a_saved_run(runs: SharedRuns, tmp_path: Path) -> None:
    first = runs("toy_chat")
    sweep = run_hydra(["-m", f"like={first}", "seed=5,6", "isolate=false", f"paths.outputs={tmp_path}"])
    assert sweep is not None
    for number, seed in (("0", 5), ("1", 6)):
        config = yaml.safe_load((sweep / number / "config.yaml").read_text())
        assert (config["seed"], config["paths"]["run"]) == (seed, str(sweep / number))
        assert read_overrides(sweep / number)["seed"] == str(seed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["model/attention=dot"], "single settings, no groups"),
        (["~model"], "single settings, no groups"),
        (["model.no_such=1"], "no such field in the run's config"),
    ],
)
def test_a_wrong_change_is_one_line_and_leaves_nothing(
    runs: SharedRuns, tmp_path: Path, changes: list[str], told: str
) -> None:
    given = [f"like={runs('toy_chat')}", *changes, f"hydra.run.dir={tmp_path}/new"]
    assert told in refusal(run_hydra, given)
    assert not (tmp_path / "new").exists()


def test_what_is_not_a_trained_run_is_refused(tmp_path: Path) -> None:
    assert "no such run" in refusal(run_hydra, [f"like={tmp_path}/none"])
    assert "cannot be trained" in refusal(run_hydra, ["like=toy-chat"])


def test_a_strangers_run_runs_no_code_and_writes_into_its_new_folder(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    foreign = tmp_path / "foreign"
    shutil.copytree(runs("toy_chat"), foreign)
    config = yaml.safe_load((foreign / "config.yaml").read_text())
    victim = tmp_path / "victim"

    def tell(**changes: object) -> str:
        (foreign / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
        return refusal(run_hydra, [f"like={foreign}", f"hydra.run.dir={tmp_path}/new"])

    assert "not one of the classes" in tell(model={**config["model"], "_target_": "os.system"})
    assert "may refer to its own fields only" in tell(name="${oc.env:HOME}")
    best = {**config["callbacks"]["best"], "dirpath": str(victim)}
    assert f"callbacks.best.dirpath={victim}: not in the run's own folder" in tell(
        callbacks={**config["callbacks"], "best": best}
    )
    assert not victim.exists()
    assert not (tmp_path / "new").exists()
