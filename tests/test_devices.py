"""Two processes on the CPU train one run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_two_processes_read_streams_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("It was the best of times, it was the worst of times.\n" * 200)
    command = [Path(sys.executable).with_name("attendgen"), "train", "experiment=novels_causal", "trainer=ddp"]
    command += ["trainer.accelerator=cpu", "trainer.devices=2", "epochs=2", "steps=100", f"paths.outputs={tmp_path}"]
    command += [f"data.root={tmp_path}", f"paths.cache={tmp_path}/cache", "data.batch_size=4", "data.time=24"]
    done = subprocess.run([*command, "model.hidden=16"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "novels_causal").iterdir()
    summary = json.loads((folder / "metrics_fit.json").read_text())
    tracks, characters = 2 * 4, 200 * 53 * 9 // 10
    assert summary["steps"] == 2 * ((characters - 24 + 1) // tracks // 24)
    assert 0 < summary["val/bits_per_character"] < 10
