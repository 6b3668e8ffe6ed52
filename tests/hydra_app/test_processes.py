"""Two processes that torchrun starts train one run, and say once what is wrong."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd

from attendgen.hydra_app.app import run_hydra
from attendgen.hydra_app.processes import LAUNCH, announce_folder, start_by_script, wait_for_folder
from attendgen.runs.status import read_history
from attendgen.utils.files import read_json
from helpers import tiny_data
from helpers.errors import refusal
from helpers.processes import TWO, Name, name_by_srun, name_by_torchrun, run_ranks
from helpers.runs import SharedRuns

QUICK = ("steps=2", "decoding.max_length=4", "callbacks.samples=null", "logger=csv", "data.batch_size=2")


def launch(*arguments: str) -> subprocess.CompletedProcess:
    """Run `attendgen train` by torchrun in two processes."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "attendgen",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "train", *arguments], capture_output=True, text=True, timeout=200, env=environment, check=False
    )


def list_messages(output: str) -> list[str]:
    """Return what AttendGen has reported as the cause of its end."""
    return [line for line in output.splitlines() if line.startswith("attendgen: ")]


def test_the_others_wait_for_the_first_of_the_same_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "1")
    announce_folder(tmp_path)
    wait_for_folder(tmp_path, 0.2)
    monkeypatch.setenv("MASTER_PORT", "2")  # the folder is that of an earlier run
    assert "has not begun a run there within 0 seconds" in refusal(wait_for_folder, tmp_path, 0.2)


def test_further_processes_run_the_script_and_find_the_packages_beside_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", ModuleSpec("package.__main__", None), raising=False)
    monkeypatch.setenv("PYTHONPATH", "given")
    monkeypatch.setattr(sys, "argv", ["script.py", "experiment=toy_chat"])
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with start_by_script():
        assert _basic_subprocess_cmd() == [sys.executable, str(Path.cwd() / "script.py"), "experiment=toy_chat"]
        places = os.environ["PYTHONPATH"].split(os.pathsep)
        assert (places[0], places[-1]) == (str(tmp_path), "given")
        assert sysconfig.get_path("purelib") not in places
    assert os.environ["PYTHONPATH"] == "given"
    assert main.__spec__.name == "package.__main__"


def test_processes_without_an_id_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert "add torchrun --standalone" in refusal(run_hydra, ["experiment=toy_chat"])


def test_a_trainer_of_one_device_is_refused_where_two_processes_were_started(tmp_path: Path) -> None:
    def train(rank: int) -> str | None:
        arguments = tiny_data.arguments("toy_chat", tmp_path, *QUICK)
        return refusal(run_hydra, arguments) if rank == 0 else None

    message, _ = run_ranks(train)
    assert message.startswith("trainer.devices=1, trainer.num_nodes=1: 1 processes, but 2 were started")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "folder"), [(name_by_torchrun, "torchrun_mine"), (name_by_srun, "slurm_42_7")], ids=["torchrun", "srun"]
)
def test_launched_processes_leave_one_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: Name, folder: str
) -> None:
    """The folder has its name from the launcher's id, as no folder is given."""
    arguments = [f"paths.outputs={tmp_path}/outputs", *TWO, *QUICK]
    given = [a for a in tiny_data.arguments("toy_chat", tmp_path, *arguments) if not a.startswith("hydra.run.dir")]
    (tmp_path / "conf").mkdir()
    given[:0] = ["--config-dir", str(tmp_path / "conf")]
    run_ranks(lambda _: run_hydra(given), name=name)
    (run,) = (tmp_path / "outputs" / "toy_chat").iterdir()
    assert run.name == folder
    assert (run / "config.yaml").is_file()
    assert "steps=2" in (run / ".hydra" / "overrides.yaml").read_text()
    assert (run / LAUNCH).is_file()
    assert capfd.readouterr().err.count("device: 2 x cpu") == 1


def test_launched_processes_start_and_go_on_by_one_command(tmp_path: Path, runs: SharedRuns) -> None:
    """The run was killed before its first checkpoint: all start it anew."""
    command = [*tiny_data.arguments("toy_chat", tmp_path, *TWO, *QUICK), "resume=auto"]
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "0")
        assert "holds a run already" in refusal(run_hydra, command)  # it has its scores
    (run / "metrics_fit.json").unlink()

    def train(*changes: str) -> int:
        run_ranks(lambda _: run_hydra([*command, *changes]))
        return int(read_json(run / "metrics_fit.json")["steps"])

    assert train() == 2
    assert train("steps=3") == 3
    assert read_history(run)[-1]["changes"] == ["steps=3"]


@pytest.mark.slow
def test_torchrun_trains_one_run_and_does_not_overwrite_it(tmp_path: Path) -> None:
    arguments = tiny_data.arguments("toy_chat", tmp_path, *TWO, *QUICK)
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("device: 2 x cpu") == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = launch(*arguments)
    assert again.returncode != 0
    (message,) = list_messages(again.stderr)
    assert "holds a run already" in message
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.slow
def test_torchrun_reports_a_mistake_once(tmp_path: Path) -> None:
    done = launch(*tiny_data.arguments("toy_chat", tmp_path, *TWO, *QUICK, "data.train=/nowhere.tsv"))
    assert done.returncode != 0
    (message,) = list_messages(done.stderr)
    assert "/nowhere.tsv" in message
    assert not (tmp_path / "run").exists()
