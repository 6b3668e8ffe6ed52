"""Runs on a GPU from the command line: training, resuming, scoring, and using what was trained."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attendgen as package
from attendgen.hydra_app.app import run_hydra
from helpers.checkpoints import assert_same, read
from helpers.errors import Command
from helpers.runs import SharedRuns
from helpers.tiny_data import PLAIN, STEPS, arguments, image

pytestmark = pytest.mark.gpu

Train = Callable[..., Path]
ON_GPU = ["trainer=gpu", "callbacks.samples=null", "validate_every=2"]
MONITORED = ["monitor.metric=val/cross_entropy", "monitor.mode=min"]
UNSCORED = ["task.metrics=[]", *MONITORED]  # without pycocoevalcap
PLAINLY = {
    "flickr8k_soft": [*STEPS["flickr8k_soft"], *UNSCORED],
    "novels_lstm": ["task/optimizer=adam", *PLAIN, "model.ngram_dropout=0.0"],
}
TESTS = Path(__file__).parents[1]
DIVERGED = """
import lightning, torch
from torch.utils.data import DataLoader
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.utils.errors import DivergedError
from helpers.families import make_training

quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
for name in ("captioner, moving baseline", "captioner, leave one out"):
    task, batch = make_training(name)
    del task.log
    with torch.no_grad():
        task.model.decoder.attention.query_proj.weight.fill_(torch.nan)
    settings = dict(max_steps=4, log_every_n_steps=2, callbacks=[FiniteLoss()])
    trainer = lightning.Trainer(accelerator="gpu", devices=1, **settings, **quiet)
    try:
        trainer.fit(task, DataLoader([batch] * 4, batch_size=None))
    except DivergedError as error:
        print("diverged:", error)
print("the device computes", torch.ones(3, device="cuda").sum().item())
"""


OVER_NCCL = """
from helpers.waiting import train_without_waiting
print("steps:", train_without_waiting("captioner", strategy="ddp", precision="bf16-mixed"))
"""


def run_python(*given: str, timeout: int = 120) -> str:
    """Run Python in a process of its own, which sees the tests' helpers; return what it printed."""
    path = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    command = [sys.executable, "-c", path + given[0]] if len(given) == 1 else [sys.executable, *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("experiment", ["toy_chat", "novels_lstm"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(experiment: str, train: Train) -> None:
    settings = [*ON_GPU, "trainer.deterministic=true", "model.dropout=0.2", "callbacks.last.minutes=0"]
    straight = train(experiment, *settings, "steps=12", name="straight")
    halted = train(experiment, *settings, "steps=6", name="halted")  # within an epoch
    run_hydra([f"resume={halted}", "steps=12"])
    wanted, found = read(straight), read(halted)
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert_same(wanted[part], found[part], part)
    assert f"device: {torch.cuda.get_device_name()}" in (straight / "train.log").read_text()


@pytest.mark.parametrize("experiment", PLAINLY)
def test_a_compiled_training_is_the_plain_one(train: Train, experiment: str) -> None:
    settings = [*PLAINLY[experiment], "trainer=gpu"]
    plain, compiled = (
        read(train(experiment, *settings, f"trainer.compile={choice}", name=choice)) for choice in ("false", "true")
    )
    torch.testing.assert_close(compiled["state_dict"], plain["state_dict"], rtol=1e-3, atol=1e-4)  # TF32


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("experiment", ["multi30k_fr_en_words", "novels_lstm", "novels", "novels_transformer"])
def test_experiments_train_in_half_precision(train: Train, experiment: str, precision: str) -> None:
    folder = train(experiment, "trainer=smoke", "trainer.accelerator=gpu", f"trainer.precision={precision}")
    state = read(folder)["state_dict"]
    assert all(torch.isfinite(part).all() for part in state.values() if part.is_floating_point())


@pytest.mark.parametrize("experiment", ["shapes", "flickr8k_soft", "flickr8k_hard", "flickr8k_scst"])
def test_captioners_train(train: Train, experiment: str) -> None:
    folder = train(experiment, *UNSCORED, "trainer=smoke", "trainer.accelerator=gpu", "trainer.precision=bf16-mixed")
    assert json.loads((folder / "metrics_fit.json").read_text())["steps"] == 2


def test_evaluation_gives_the_scores_of_the_training_and_of_a_cpu(train: Train, attendgen: Command) -> None:
    folder = train("toy_chat", *ON_GPU, "steps=8", *MONITORED)
    fitted = json.loads((folder / "metrics_fit.json").read_text())
    scores = {}
    for place in ("cpu", "cuda"):
        outcome = attendgen("evaluate", folder, "--device", place, "--out", folder / place)
        assert outcome.code == 0, outcome.err
        (file,) = (folder / place).glob("metrics_val*.json")
        scores[place] = json.loads(file.read_text())
    assert scores["cuda"]["cross_entropy"] == pytest.approx(fitted["val/cross_entropy"], rel=1e-4)
    assert scores["cuda"]["exact_match"] == scores["cpu"]["exact_match"]
    assert scores["cuda"]["cross_entropy"] == pytest.approx(scores["cpu"]["cross_entropy"], rel=5e-3)  # TF32


@pytest.mark.parametrize("experiment", ["novels_lstm", "shapes"])  # a carried state, and batch norms
def test_a_single_process_trains_over_nccl(experiment: str, tmp_path: Path) -> None:
    scored = UNSCORED if experiment == "shapes" else []
    given = arguments(
        experiment, tmp_path, *scored, "trainer=ddp", "trainer.devices=1", "steps=4", "callbacks.samples=null"
    )
    run_python("-m", "attendgen", "train", *given, "+trainer.limit_val_batches=1")
    assert read(tmp_path / "run")["global_step"] == 4


def test_a_training_over_nccl_does_not_wait() -> None:
    assert "steps: 6" in run_python(OVER_NCCL)


def test_attention_that_is_not_finite_ends_the_training_and_not_the_device() -> None:
    printed = run_python(DIVERGED)
    assert printed.count("diverged: the loss is not finite") == 2
    assert "the device computes 3.0" in printed


def load_both(folder: Path, device: str) -> tuple[Any, Any]:
    """Return a run's model on the CPU and on the GPU, both in full single precision."""
    both = tuple(package.load(folder, device=place) for place in ("cpu", device))
    torch.set_float32_matmul_precision("highest")  # on a GPU a model is loaded for TF32
    return both


def test_a_translator_is_loaded_on_the_gpu(runs: SharedRuns, attendgen: Command, device: str) -> None:
    folder = runs("toy_chat")
    options = [{}, {"beam_size": 3, "n_best": 2}, {"temperature": 0.7, "seed": 1, "n_best": 2}]
    here, there = load_both(folder, device)
    assert there.device.type == "cuda"
    for option in options:
        pairs = zip(here.generate("ça va", **option), there.generate("ça va", **option), strict=True)
        for expected, found in pairs:
            assert found.text == expected.text
            assert found.score == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
    assert there.score("ça va", "oui").score == pytest.approx(here.score("ça va", "oui").score, rel=1e-3)
    outcome = attendgen("generate", folder, "ça va", "--device", device)
    assert outcome.code == 0, outcome.err
    assert outcome.out


@pytest.mark.parametrize("experiment", ["novels_lstm", "novels", "novels_textgenerate", "novels_transformer"])
def test_a_text_generator_is_loaded_on_the_gpu(experiment: str, runs: SharedRuns, device: str) -> None:
    folder = runs(experiment)
    here, there = load_both(folder, device)
    for option in ({"max_length": 40, "temperature": 0.7, "seed": 1}, {"max_length": 20, "temperature": 0.0}):
        assert there.generate("It was", **option)[0].text == here.generate("It was", **option)[0].text
    assert there.score("It was", " the").score == pytest.approx(here.score("It was", " the").score, rel=1e-3)


def test_a_captioner_is_loaded_on_the_gpu(runs: SharedRuns, tmp_path: Path, device: str) -> None:
    folder, picture = runs("shapes", *UNSCORED), image(tmp_path / "red.png", "red")
    here, there = load_both(folder, device)
    for option in ({}, {"beam_size": 3, "mbr_samples": 4, "seed": 1}):
        assert there.caption(picture, **option)[0].text == here.caption(picture, **option)[0].text
