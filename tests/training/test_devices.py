"""Two processes on the CPU train one run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.hydra_app.app import run_hydra
from helpers import tiny_data

pytestmark = pytest.mark.slow

PROGRAM = str(Path(sys.executable).with_name("attendgen"))
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def start_training(*overrides: str, **variables: str) -> None:
    """Train in a process of its own."""
    done = subprocess.run(
        [PROGRAM, "train", *overrides], capture_output=True, text=True, timeout=300, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    start_training("experiment=toy_chat", *TWO, "epochs=10", f"paths.outputs={tmp_path}")
    (folder,) = (tmp_path / "toy_chat").iterdir()
    summary = json.loads((folder / "metrics_fit.json").read_text())
    # four batches of up to five pairs make two steps an epoch for each of two processes
    assert summary["steps"] == 20
    assert 0 <= summary["val/exact_match"] <= 1
    assert len(list((folder / "tensorboard").glob("events*"))) == 1


@pytest.mark.parametrize("experiment", tiny_data.STEPS)
def test_two_processes_make_the_steps_of_the_joined_batch(tmp_path: Path, monkeypatch, experiment: str) -> None:
    """Ten losses and the weights after them; sequences of unequal length, batches of unequal size."""
    settings = tiny_data.STEPS[experiment]
    monkeypatch.setattr("attendgen.data.loader.ResumableSampler", tiny_data.JoinedSampler)
    run_hydra(tiny_data.arguments(experiment, tmp_path, *settings, name="joined"))
    start_training(*tiny_data.arguments(experiment, tmp_path, *settings, *TWO, name="several"))
    losses, weights = [], []
    for name in ("joined", "several"):
        events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
        losses.append([event.value for event in events.Scalars("train/loss")])
        weights.append(torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
    assert len(losses[0]) == 10
    assert losses[1] == pytest.approx(losses[0], rel=1e-5, abs=1e-5)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_processes_validate_unequally_many_batches(tmp_path: Path) -> None:
    """Three images for two processes, each scored once, by a model with buffers."""
    few = [
        "data.max_samples=8",
        "+data.source.counts={train: 8, val: 3, test: 4}",
        "data.batch_size=1",
        "epochs=1",
        "validate_every=1",
    ]
    start_training("experiment=shapes", *TWO, *few, f"paths.cache={tmp_path}/cache", f"hydra.run.dir={tmp_path}/run")
    scores = json.loads((tmp_path / "run" / "metrics_fit.json").read_text())
    assert scores["steps"] == 4
    assert scores["val/exact_match"] * 3 == pytest.approx(round(scores["val/exact_match"] * 3))


def test_a_signal_to_the_first_process_stops_both_and_the_run_resumes(tmp_path: Path) -> None:
    several = [*TWO, "epochs=40", "model.dropout=0.2"]
    straight = tiny_data.arguments("toy_chat", tmp_path, *several, name="straight")
    start_training(*straight)
    started = subprocess.Popen([PROGRAM, "train", *tiny_data.arguments("toy_chat", tmp_path, *several, name="halted")])
    last = tmp_path / "halted" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert started.poll() is None
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 128 + signal.SIGTERM
    assert torch.load(last, weights_only=True)["global_step"] < 80
    start_training(f"resume={tmp_path / 'halted'}")
    ends = [torch.load(tmp_path / n / "checkpoints/last.ckpt", weights_only=True) for n in ("straight", "halted")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 80
    for name, tensor in ends[0]["state_dict"].items():
        assert torch.equal(ends[1]["state_dict"][name], tensor), name


def test_each_process_reads_its_own_streams(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("It was the best of times, it was the worst of times.\n" * 200)
    data = [f"data.root={tmp_path}", f"paths.cache={tmp_path}/cache", "data.batch_size=4", "data.seq_len=24"]
    settings = ["epochs=2", "steps=100", f"paths.outputs={tmp_path}", "model.hidden=16"]
    start_training("experiment=novels_lstm", *TWO, *data, *settings)
    (folder,) = (tmp_path / "novels_lstm").iterdir()
    summary = json.loads((folder / "metrics_fit.json").read_text())
    streams, characters = 2 * 4, 200 * 53 * 9 // 10
    assert summary["steps"] == 2 * ((characters - 24 + 1) // streams // 24)
    assert 0 < summary["val/bits_per_character"] < 10


def test_a_sweep_trains_each_trial_on_both_devices(tmp_path: Path) -> None:
    start_training("-m", "experiment=toy_chat", "seed=1,2", *TWO, "epochs=10", f"paths.outputs={tmp_path}")
    (sweep,) = (tmp_path / "multirun" / "toy_chat").iterdir()
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "multirun.yaml"}
    for trial, seed in (("0", 1), ("1", 2)):
        assert yaml.safe_load((sweep / trial / "config.yaml").read_text())["seed"] == seed
        assert json.loads((sweep / trial / "metrics_fit.json").read_text())["steps"] == 20
        assert len(list((sweep / trial / "tensorboard").glob("events*"))) == 1


def test_hard_attention_samples_other_locations_in_each_process(tmp_path: Path) -> None:
    command = ["experiment=shapes", "task=captioning_hard", "task/estimator=leave_one_out", *TWO, "steps=2"]
    command += ["data.max_samples=64", "+trainer.limit_val_batches=1", f"paths.outputs={tmp_path}"]
    command += [f"paths.cache={tmp_path}/cache", "+callbacks.spy._target_=helpers.spies.SampledLocations"]
    command += [f"+callbacks.spy.folder={tmp_path}"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    start_training(*command, PYTHONPATH=path)
    locations = [torch.load(tmp_path / f"{rank}.pt", weights_only=True).argmax(dim=-1) for rank in range(2)]
    # of 400 samples among 64 locations six agree by chance; with one seed for both processes all would
    assert (locations[0] == locations[1]).sum() < 40
    assert all(len(drawn.unique()) > 50 for drawn in locations)


def test_processes_with_ranks_that_a_launcher_starts_leave_one_run(tmp_path: Path) -> None:
    """The launcher, such as torchrun, starts both processes with the same arguments and another LOCAL_RANK."""
    given = [*tiny_data.arguments("toy_chat", tmp_path, *TWO, "epochs=2", "validate_every=1", "decoding.max_length=4")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen([PROGRAM, "train", *given], env={**common, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    summary = json.loads((tmp_path / "run" / "metrics_fit.json").read_text())
    assert summary["steps"] == 4
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1
