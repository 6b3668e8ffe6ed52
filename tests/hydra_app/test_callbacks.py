"""A start that fails removes its own files alone, and one that succeeds overwrites no others."""

from pathlib import Path

import pytest

from attendgen.hydra_app import callbacks
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.save import require_new
from attendgen.utils.errors import UserError

BROKEN = ["data.train=nowhere.tsv"]


def contents(folder: Path) -> dict[str, str | None]:
    """Every path below a folder with its text."""
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in folder.rglob("*")}


def fill(folder: Path, files: list[str]) -> dict[str, str | None]:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    return contents(folder)


SETTINGS: list[list[str]] = [[], BROKEN, ["data.batch_size=0"], ["model.hidden=x"]]
FILES = [
    *(["tensorboard/x", "environment.json"], ["vocabulary.json"], ["config.yaml"], [".hydra/config.yaml"]),
    *(["train.log"], ["checkpoints/last.ckpt"], ["metrics_fit.json"], ["tensorboard/deep/er/x"]),
]
STARTS = [(FILES[0], settings) for settings in SETTINGS[1:]] + [(files, SETTINGS[0]) for files in FILES]
STARTS += [(files, BROKEN) for files in FILES[2:4]]


@pytest.mark.parametrize(("files", "settings"), STARTS, ids=str)
def test_a_folder_with_files_of_a_runs_names_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], settings: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = fill(tmp_path, files)
    with pytest.raises(UserError, match=r"which a run would write over; give hydra\.run\.dir a new or empty folder"):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=.", "callbacks.progress=null", *settings])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", [".", "run", "deep/er"])
def test_a_failed_start_leaves_an_existing_folder_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / place, ["notes.txt", "data/pairs.tsv"])
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir={place}", *BROKEN])
    assert contents(tmp_path) == before


def test_a_failed_start_leaves_an_existing_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert contents(tmp_path) == {"run": None}


def test_a_failed_start_removes_the_folder_that_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert not (tmp_path / "run").exists()


def test_the_command_of_a_killed_start_works_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["experiment=toy_chat", "hydra.run.dir=run", "trainer=smoke", "callbacks.progress=null"]
    command += ["decoding.max_length=4", "callbacks.samples=null"]

    def kill(*args: object, **kwargs: object) -> None:
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


def test_of_two_starts_in_one_folder_one_is_refused_and_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process starts while the first has not written anything yet."""
    monkeypatch.chdir(tmp_path)
    callbacks._claim(tmp_path / "run")
    with pytest.raises(UserError, match=r"holds \.hydra"):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", *BROKEN])
    assert contents(tmp_path) == {"run": None, "run/.hydra": None}


@pytest.mark.parametrize("place", ["run", "deep/../run", "run/"])
def test_an_existing_folder_stays_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "deep").mkdir()
    with pytest.raises(UserError, match=r"nowhere\.tsv"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir={place}", *BROKEN])
    assert contents(tmp_path) == {"run": None, "deep": None}


@pytest.mark.parametrize(
    "subdir", [".", pytest.param("a/${hydra.job.num}", marks=pytest.mark.slow), "../other/${hydra.job.num}"]
)
def test_a_refused_trial_deletes_nothing(tmp_path: Path, subdir: str) -> None:
    place = tmp_path / "sweep" / subdir.replace("${hydra.job.num}", "0")
    fill(place, [".hydra/mine.yaml", "train.log", "notes"])
    (tmp_path / "sweep").mkdir(exist_ok=True)
    sweep = [f"hydra.sweep.dir={tmp_path}/sweep", f"hydra.sweep.subdir={subdir}", "-m", "experiment=toy_chat"]
    with pytest.raises(UserError, match="fast"):
        run_hydra([*sweep, "seed=1,2", "trainer.profiler=fast"])
    assert (place / ".hydra" / "mine.yaml").read_text() == "mine: .hydra/mine.yaml"
    assert "mine: train.log" in (place / "train.log").read_text()


def test_a_folder_that_was_not_claimed_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        run_hydra(["experiment=toy_chat", "hydra.run.dir=run", "hydra.callbacks.run_folder=null", *BROKEN])
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize("files", [["environment.json", "tensorboard/x"], [".hydra/mine.yaml", "train.log", "notes"]])
def test_a_sweep_deletes_nothing_of_an_existing_folder(tmp_path: Path, files: list[str]) -> None:
    fill(tmp_path / "sweep" / "0", files)
    sweep = [f"hydra.sweep.dir={tmp_path}/sweep", "-m", "experiment=toy_chat", "seed=1,2", "isolate=false"]
    with pytest.raises(UserError):
        run_hydra([*sweep, "trainer.devices=2", *BROKEN])  # which a trial in the sweep's process refuses
    kept = contents(tmp_path / "sweep" / "0")
    for name in files:
        assert f"mine: {name}" in (kept[name] or "")


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "vocabulary.json", "checkpoints/x"])
def test_a_model_saved_as_a_run_overwrites_nothing(tmp_path: Path, name: str) -> None:
    before = fill(tmp_path, [name])
    with pytest.raises(UserError, match="--out"):
        require_new(tmp_path)
    assert contents(tmp_path) == before
