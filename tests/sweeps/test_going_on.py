"""A killed sweep and a pre-empted run go on by the same command."""

import json
from pathlib import Path

import pytest

from attendgen.hydra_app.app import run_hydra
from attendgen.hydra_app.auto import choose_resumed
from attendgen.runs.status import read_history
from attendgen.utils.errors import UserError
from helpers.errors import refusal

TINY = ["experiment=toy_chat", "trainer=smoke", "callbacks.samples=null", "callbacks.progress=null", "logger=none"]
TINY += ["decoding.max_length=4"]


def test_sweep_goes_on_with_trials_that_are_not_complete(tmp_path: Path) -> None:
    command = ["-m", "seed=1,2,3", *TINY, "isolate=false", f"hydra.sweep.dir={tmp_path}/sweep"]
    run_hydra(command)
    done, killed, failed = (tmp_path / "sweep" / str(number) for number in range(3))
    (killed / "metrics_fit.json").unlink()  # as if it had been killed before its end
    (failed / "error.json").write_text(json.dumps({"error": "the disk was full"}))
    times = (done / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    run_hydra(command)
    assert (done / "checkpoints" / "last.ckpt").stat().st_mtime_ns == times
    assert [len(read_history(trial)) for trial in (done, killed, failed)] == [1, 2, 2]
    assert (killed / "metrics_fit.json").exists()
    assert not (failed / "error.json").exists()
    with pytest.raises(UserError, match="holds a run already"):  # another trial
        run_hydra([*command, "model.hidden=9"])


def test_the_same_command_starts_a_run_and_goes_on(tmp_path: Path) -> None:
    command = [*TINY, f"hydra.run.dir='{tmp_path}/my run'", "resume=auto"]
    run_hydra(command)
    assert len(read_history(tmp_path / "my run")) == 1
    run_hydra([*command, "trainer.max_steps=3", "trainer.max_epochs=9"])
    sessions = read_history(tmp_path / "my run")
    assert sessions[1]["changes"] == ["trainer.max_steps=3", "trainer.max_epochs=9"]
    assert json.loads((tmp_path / "my run" / "metrics_fit.json").read_text())["steps"] == 3


def test_auto_needs_a_folder_and_leaves_sweeps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hydra.run.dir=DIR" in refusal(choose_resumed, ["experiment=toy_chat", "resume=auto"])
    assert choose_resumed(["-m", "seed=1,2", "resume=auto"]) == ["-m", "seed=1,2"]
    run = [f"hydra.run.dir={tmp_path}", "resume=auto"]
    assert choose_resumed(run) == run[:1]
    for name in ("config.yaml", "vocabulary.json"):
        (tmp_path / name).touch()
    assert choose_resumed(run) == [f"resume={tmp_path}"]
    # of several processes the first has written these files
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert choose_resumed(run) == run[:1]
