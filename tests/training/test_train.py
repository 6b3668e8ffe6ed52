"""What a training leaves, and what it depends on."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch

from attendgen.runs.run import Run
from attendgen.training.trainer import describe_unused_gpu
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.runs import SharedRuns

Train = Callable[..., Path]


def test_a_run_directory_is_complete(runs: SharedRuns) -> None:
    folder = runs("toy_chat")
    for name in (
        "config.yaml",
        "vocabulary.json",
        "environment.json",
        ".hydra/overrides.yaml",
        "checkpoints/best.ckpt",
    ):
        assert (folder / name).is_file(), name
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert environment["command"][:2] == ["attendgen", "train"]
    assert "trainer=smoke" in environment["command"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=get_conf_dir(), capture_output=True, text=True, check=False)
    assert environment["commit"] == (head.stdout.strip() or None)
    assert environment["device"]
    config = (folder / "config.yaml").read_text()
    assert "decoding: ${decoding}" in config, "references to other fields stay"
    assert not re.search(r"\$\{\w+:", config), "all else is resolved"


def test_a_run_has_the_threads_that_its_config_names(runs: SharedRuns) -> None:
    before = torch.get_num_threads()
    for folder, count in (
        (runs("toy_chat"), 1),
        (runs("toy_chat", "threads=3", "decoding.max_length=4", "callbacks.samples=null"), 3),
    ):
        assert json.loads((folder / "environment.json").read_text())["threads"] == count
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("device", "available", "told"), [("cpu", True, True), ("cpu", False, False), ("cuda", True, False)]
)
def test_a_training_on_the_cpu_says_that_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, available: bool, told: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert ("trainer=gpu" in str(describe_unused_gpu(torch.device(device)))) == told


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(runs: SharedRuns, train: Train) -> None:
    short = ["trainer=smoke", "decoding.max_length=4", "callbacks.samples=null"]  # which changes no weights
    folders = [runs("toy_chat"), *(train("toy_chat", *short, f"seed={seed}", name=f"run{seed}") for seed in (1, 2))]
    one, same, other = (read(folder)["state_dict"] for folder in folders)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


class BatchesByEpoch(lightning.Callback):
    """Records what each epoch trains on."""

    def __init__(self) -> None:
        self.batches: dict[int, list[list[int]]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.batches.setdefault(trainer.current_epoch, []).append(batch[1].flatten().tolist())


SHORT = {"toy_chat": ["decoding.max_length=4"], "novels": ["task.schedule.steps=10", "data.batch_size=32"]}


@pytest.mark.parametrize("experiment", SHORT)
def test_every_epoch_is_shuffled_anew(train: Train, monkeypatch: pytest.MonkeyPatch, experiment: str) -> None:
    seen = BatchesByEpoch()
    monkeypatch.setattr("attendgen.callbacks.GradientNorm", lambda: seen, raising=False)
    train(experiment, "epochs=2", "steps=-1", "+trainer.limit_val_batches=1", *SHORT[experiment])
    assert len(seen.batches[0]) == len(seen.batches[1]) > 1
    assert seen.batches[0] != seen.batches[1]


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[pytest.mark.slow] if name != "toy_chat" else []) for name in tiny_data.STEPS],
)
def test_accumulated_batches_make_the_step_of_the_joined_batch(
    train: Train, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    """With unequal lengths, and batches of unequal size."""
    settings = tiny_data.STEPS[experiment]
    accumulated = train(experiment, *settings, "trainer.accumulate_grad_batches=2", name="accumulated")
    monkeypatch.setattr("attendgen.data.loader.ResumableSampler", tiny_data.JoinedSampler)
    joined = train(experiment, *settings, name="joined")
    one, other = read(accumulated), read(joined)
    assert one["global_step"] == other["global_step"] == 10
    for name, weights in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][name], weights, rtol=1e-5, atol=1e-5, msg=name)


def test_features_of_a_trained_encoder_are_not_cached(train: Train) -> None:
    with pytest.raises(UserError, match=r"data\.cache=null"):
        train("flickr8k_soft", "trainer=smoke", "model.encoder.freeze=false")


def test_a_bundled_model_can_be_trained_further(train: Train) -> None:
    settings = ["init_from=toy-chat", "task.optimizer.lr=0", "decoding.max_length=4", "callbacks.samples=null"]
    bundled = Run.find("toy-chat")
    sizes = [f"model.{name}={bundled.config.model[name]}" for name in ("embedding_dim", "hidden")]
    folder = train("toy_chat", "trainer=smoke", *settings, *sizes)
    first, second = bundled.load_model().state_dict(), Run.find(folder).load_model().state_dict()
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
