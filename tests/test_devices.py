"""Two processes on the CPU train one run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow


def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("attendgen"), "train", "experiment=toy_chat", "trainer=ddp"]
    command += ["trainer.accelerator=cpu", "trainer.devices=2", "epochs=10", f"paths.outputs={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "toy_chat").iterdir()
    summary = json.loads((folder / "metrics_fit.json").read_text())
    # four batches of up to five pairs make two steps an epoch for each of two processes
    assert summary["steps"] == 20
    assert 0 <= summary["val/exact_match"] <= 1
    assert len(list((folder / "tensorboard").glob("events*"))) == 1


def test_a_sweep_trains_each_trial_on_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from attendgen.cli import main; main()", "train", "-m", "seed=1,2", "trainer=ddp"]
    command += ["trainer.accelerator=cpu", "trainer.devices=2", "epochs=10", f"paths.outputs={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (sweep,) = (tmp_path / "multirun" / "toy_chat").iterdir()
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "multirun.yaml"}
    for trial, seed in (("0", 1), ("1", 2)):
        assert yaml.safe_load((sweep / trial / "config.yaml").read_text())["seed"] == seed
        assert json.loads((sweep / trial / "metrics_fit.json").read_text())["steps"] == 20
        assert len(list((sweep / trial / "tensorboard").glob("events*"))) == 1
