"""A start that fails removes its own files alone, and one that succeeds writes over nobody's."""

import os
from pathlib import Path

import pytest
import yaml

from attendgen.hydra_app.app import run_hydra
from attendgen.hydra_app.callbacks import RunFolder
from attendgen.runs.run import Run
from attendgen.runs.save import require_new
from attendgen.utils.errors import UserError
from helpers import tiny_data

BROKEN = ["data.train=nowhere.tsv"]


def contents(folder: Path) -> dict[str, str | None]:
    """Every path below a folder with its text."""
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in folder.rglob("*")}


def fill(folder: Path, files: list[str]) -> dict[str, str | None]:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    return contents(folder)


@pytest.mark.parametrize("settings", [BROKEN, ["data.batch_size=0"], ["model.hidden=x"], []], ids=str)
@pytest.mark.parametrize(
    "files",
    [
        *(["tensorboard/x", "environment.json"], ["vocabulary.json"], ["config.yaml"], [".hydra/config.yaml"]),
        *(["train.log"], ["checkpoints/last.ckpt"], ["metrics_fit.json"], ["tensorboard/deep/er/x"]),
    ],
    ids=str,
)
def test_a_folder_with_files_of_a_runs_names_is_left_as_it_is(tmp_path: Path, monkeypatch, files, settings) -> None:
    monkeypatch.chdir(tmp_path)
    before = fill(tmp_path, files)
    with pytest.raises(UserError, match=r"which a run would write over; give hydra\.run\.dir a new or empty folder"):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=.", "callbacks.progress=null", *settings])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", [".", "run", "deep/er"])
def test_a_failed_start_leaves_an_existing_folder_and_what_is_in_it(tmp_path: Path, monkeypatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / place, ["notes.txt", "data/pairs.tsv"])
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir={place}", *BROKEN])
    assert contents(tmp_path) == before


def test_a_failed_start_leaves_an_existing_empty_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert contents(tmp_path) == {"run": None}


def test_a_failed_start_removes_the_folder_that_it_made(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert not (tmp_path / "run").exists()


def test_the_command_of_a_killed_start_works_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["experiment=toy_chat", "hydra.run.dir=run", "trainer=smoke", "callbacks.progress=null"]

    def kill(*args, **kwargs) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("attendgen.runs.save.save_config", kill)
        with pytest.raises(KeyboardInterrupt):
            run_hydra(command)
    assert (tmp_path / "run" / "vocabulary.json").is_file()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        run_hydra([*command, *BROKEN])
    assert contents(tmp_path).keys() == before.keys()
    run_hydra(command)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_of_two_starts_in_one_folder_one_is_refused_and_deletes_nothing(tmp_path: Path, monkeypatch) -> None:
    """The second process looks while the first has not written anything yet."""
    monkeypatch.chdir(tmp_path)
    RunFolder._claim(tmp_path / "run")
    with pytest.raises(UserError, match=r"holds \.hydra"):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert contents(tmp_path) == {"run": None, "run/.hydra": None}


def test_a_first_process_with_a_rank_writes_over_no_run(finished: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    before = (finished / "config.yaml").read_text()
    with pytest.raises(UserError, match="holds a run already"):
        run_hydra(tiny_data.arguments("toy_chat", tmp_path, "seed=9", name="old"))
    assert (finished / "config.yaml").read_text() == before


@pytest.mark.parametrize("place", ["run", "deep/../run", "run/"])
def test_an_existing_folder_stays_however_it_is_written(tmp_path: Path, monkeypatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "deep").mkdir()
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir={place}", *BROKEN])
    assert contents(tmp_path) == {"run": None, "deep": None}


@pytest.mark.parametrize("subdir", [".", "a/${hydra.job.num}", "../other/${hydra.job.num}"])
def test_a_refused_trial_deletes_nothing(tmp_path: Path, subdir: str) -> None:
    place = tmp_path / "sweep" / subdir.replace("${hydra.job.num}", "0")
    fill(place, [".hydra/mine.yaml", "train.log", "notes"])
    (tmp_path / "sweep").mkdir(exist_ok=True)
    sweep = [f"hydra.sweep.dir={tmp_path}/sweep", f"hydra.sweep.subdir={subdir}", "-m", "experiment=toy_chat"]
    with pytest.raises(UserError, match="fast"):
        run_hydra([*sweep, "seed=1,2", "trainer.profiler=fast"])
    assert (place / ".hydra" / "mine.yaml").read_text() == "mine: .hydra/mine.yaml"
    assert "mine: train.log" in (place / "train.log").read_text()


def test_what_was_not_looked_at_before_is_not_removed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", "hydra.callbacks.run_folder=null", *BROKEN])
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize("files", [["environment.json", "tensorboard/x"], [".hydra/mine.yaml", "train.log", "notes"]])
def test_a_sweep_deletes_nothing_of_a_folder_that_is_there(tmp_path: Path, files: list[str]) -> None:
    fill(tmp_path / "sweep" / "0", files)
    sweep = [f"hydra.sweep.dir={tmp_path}/sweep", "-m", "experiment=toy_chat", "seed=1,2", "isolate=false"]
    with pytest.raises(UserError):
        run_hydra([*sweep, "trainer.devices=2", *BROKEN])  # which a trial in the sweep's process refuses
    kept = contents(tmp_path / "sweep" / "0")
    for name in files:
        assert f"mine: {name}" in (kept[name] or "")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    run_hydra(tiny_data.arguments("toy_chat", tmp_path, "epochs=1", "validate_every=1", name="old"))
    return tmp_path / "old"


def test_a_saved_config_does_not_train_into_the_old_runs_folder(finished: Path, tmp_path: Path, monkeypatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    again = ["--config-dir", str(finished), "--config-name", "config", "seed=2"]
    with pytest.raises(UserError, match=r"paths\.run=.*/old: not the folder of this run") as mistake:
        run_hydra([*again, "hydra.run.dir=new"])
    assert "'paths.run=${hydra:runtime.output_dir}'" in str(mistake.value)
    run_hydra([*again, "hydra.run.dir=newer", "paths.run=${hydra:runtime.output_dir}"])  # as the message advises
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before
    assert (tmp_path / "newer" / "checkpoints" / "best.ckpt").is_file()
    assert Run.find(tmp_path / "newer").config.seed == 2


def test_another_folder_for_a_runs_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paths\.run="):
        run_hydra(tiny_data.arguments("toy_chat", tmp_path, f"paths.run={tmp_path}/elsewhere"))
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "vocabulary.json", "checkpoints/x"])
def test_a_made_run_writes_over_nothing(tmp_path: Path, name: str) -> None:
    before = fill(tmp_path, [name])
    with pytest.raises(UserError, match="--out"):
        require_new(tmp_path)
    assert contents(tmp_path) == before


def test_a_link_to_a_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "run")
    run_hydra(tiny_data.arguments("toy_chat", tmp_path, "trainer=smoke"))
    assert yaml.safe_load((tmp_path / "real" / "config.yaml").read_text())["seed"] == 1
