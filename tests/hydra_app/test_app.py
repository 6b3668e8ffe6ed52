"""The command line of `attendgen train`: arguments, config folders, folders of runs, further processes."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from attendgen.config.trust import VARIABLE
from attendgen.hydra_app.app import main, order_arguments, run_hydra, take_trust
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir
from helpers import tiny_data
from helpers.errors import refusal
from helpers.runs import SharedRuns

QUICK = ["trainer=smoke", "callbacks.progress=null", "callbacks.samples=null", "decoding.max_length=4"]


@pytest.fixture
def finished(runs: SharedRuns) -> Path:
    """A finished run."""
    return runs("toy_chat")


def test_overrides_and_options_may_be_mixed() -> None:
    given = ["-m", "seed=1,2", "--config-dir", "conf", "experiment=toy_chat"]
    assert order_arguments(given) == ["seed=1,2", "experiment=toy_chat", "-m", "--config-dir", "conf"]
    assert "exclude each other" in refusal(order_arguments, ["--cfg", "job", "-m"])
    assert "see attendgen train --help" in refusal(order_arguments, ["--no-such-option"])


def test_trusted_packages_are_taken_out_of_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert take_trust(["seed=1", "--trust", "mypaper", "-m", "--trust=other.part"]) == ["seed=1", "-m"]
    assert os.environ[VARIABLE] == "mypaper,other.part"
    for wrong in (["--trust"], ["--trust", "a b"], ["--trust=x;y"]):
        assert "--trust" in refusal(take_trust, wrong)


def print_config(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """The composed config, which `--cfg job` prints."""
    capfd.readouterr()
    run_hydra([*arguments, "experiment=toy_chat", "--cfg", "job"])
    return yaml.safe_load(capfd.readouterr().out)


LOCAL = "# @package _global_\npaths:\n  outputs: /big/outputs\ntrainer:\n  precision: bf16-mixed\n"


def test_settings_of_the_machine_are_used_if_they_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shipped = shutil.copytree(get_conf_dir(), tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    monkeypatch.setattr("attendgen.hydra_app.app.get_conf_dir", lambda: shipped)
    assert print_config(capfd)["paths"]["outputs"] == "outputs"
    (shipped / "local").mkdir()
    (shipped / "local" / "default.yaml").write_text(LOCAL)
    config = print_config(capfd)
    assert (config["paths"]["outputs"], config["trainer"]["precision"]) == ("/big/outputs", "bf16-mixed")
    config = print_config(capfd, "paths.outputs=here", "trainer.precision=32-true")
    assert (config["paths"]["outputs"], config["trainer"]["precision"]) == ("here", "32-true")


def test_settings_of_the_machine_may_be_in_a_folder_of_the_users_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if (get_conf_dir() / "local" / "default.yaml").exists():
        pytest.skip("conf/local is in use")
    own = tmp_path / "mine"
    (own / "local").mkdir(parents=True)
    (own / "local" / "default.yaml").write_text(LOCAL)
    config = print_config(capfd, "--config-dir", str(own))
    assert (config["paths"]["outputs"], config["trainer"]["precision"]) == ("/big/outputs", "bf16-mixed")


def test_an_environment_variable_is_saved_as_the_folder_of_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTENDGEN_DATA", str(tmp_path / "all"))
    tiny_data.novels(tmp_path / "all" / "novels")
    given = [part for part in tiny_data.arguments("novels_lstm", tmp_path) if not part.startswith("data.root")]
    run_hydra([*given, "trainer=smoke", "callbacks.samples=null"])
    monkeypatch.delenv("ATTENDGEN_DATA")
    config = Run.find(tmp_path / "run").config
    assert (config.paths.data, config.data.root) == (f"{tmp_path}/all", f"{tmp_path}/all/novels")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["root"] == "${paths.data}/novels"


@pytest.mark.parametrize("option", ["--config-dir", "--config-path"])
@pytest.mark.parametrize("place", [".", ".hydra"])
def test_a_runs_folder_is_no_folder_of_configs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, place: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    told = refusal(run_hydra, [option, str(finished / place), "--config-name", "config", "hydra.run.dir=new"])
    assert f"the folder of a run; train with its settings by attendgen train like={finished}" in told
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("field", ["callbacks.best.dirpath", "logger.tensorboard.save_dir", "callbacks.last.folder"])
def test_a_part_of_a_run_does_not_write_into_another_run(finished: Path, tmp_path: Path, field: str) -> None:
    written = [f"{field}={finished}/checkpoints", *QUICK]
    assert f"in the folder of another run, {finished}" in refusal(
        run_hydra, tiny_data.arguments("toy_chat", tmp_path, *written)
    )
    assert not (tmp_path / "run").exists()


def test_another_folder_for_a_runs_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paths\.run="):
        run_hydra(tiny_data.arguments("toy_chat", tmp_path, f"paths.run={tmp_path}/elsewhere"))
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "run").exists()


def test_a_link_to_a_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "run")
    run_hydra(tiny_data.arguments("toy_chat", tmp_path, *QUICK))
    assert yaml.safe_load((tmp_path / "real" / "config.yaml").read_text())["seed"] == 1


def test_a_first_process_with_a_rank_overwrites_no_run(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    before = (finished / "config.yaml").read_text()
    with pytest.raises(UserError, match="holds a run already"):
        run_hydra(["experiment=toy_chat", f"hydra.run.dir='{finished}'", "seed=9"])
    assert (finished / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("rank", "parents", "begin"),
    [
        (None, itertools.repeat(7), "attendgen: no_such_field"),
        ("1", itertools.repeat(7), "attendgen: process 1: no_such_field"),
        ("1", itertools.chain([7], itertools.repeat(1)), None),  # the first process has reported it, and ended
    ],
)
def test_a_mistake_is_reported_by_the_first_process_alone(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    rank: str | None,
    parents: Iterator[int],
    begin: str | None,
) -> None:
    monkeypatch.setattr("attendgen.utils.exit_codes.PATIENCE", 0.1)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr("sys.argv", ["run.py", "experiment=toy_chat", "no_such_field=1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("attendgen: ")]
    assert len(lines) == (begin is not None)
    assert all(line.startswith(str(begin)) for line in lines)
