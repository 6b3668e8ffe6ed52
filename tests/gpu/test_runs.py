"""Runs on a GPU from the command line: training, resuming, scoring, and using what was trained."""

import json
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
from helpers.tiny_data import PLAIN, STEPS, image

pytestmark = pytest.mark.gpu

Train = Callable[..., Path]
ON_GPU = ["trainer=gpu", "callbacks.samples=null", "validate_every=2"]
MONITORED = ["monitor.metric=val/cross_entropy", "monitor.mode=min"]
UNSCORED = ["task.metrics=[]", *MONITORED]  # without pycocoevalcap
PLAINLY = {
    "flickr8k_soft": [*STEPS["flickr8k_soft"], *UNSCORED, "trainer.accumulate_grad_batches=2"],
    "toy_chat": [*STEPS["toy_chat"], "model/decoder=luong", "trainer.gradient_clip_val=0.1"],
    "novels_lstm": ["task/optimizer=adam", *PLAIN, "model.ngram_dropout=0.0"],
}
QUICK = ["callbacks.samples=null", "+trainer.limit_val_batches=1"]


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


def test_a_compiled_run_goes_on_from_its_state(train: Train) -> None:
    folder = train("novels_lstm", *ON_GPU, "trainer.compile=true", "callbacks.last.minutes=0", "steps=6")
    run_hydra([f"resume={folder}", "steps=12"])
    assert read(folder)["global_step"] == 12


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize(
    "experiment", ["multi30k_fr_en_words", "e2e", "rotowire_games", "novels_lstm", "novels", "novels_transformer"]
)
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
def test_a_single_process_trains_over_nccl(experiment: str, train: Train, process_group: None) -> None:
    scored = UNSCORED if experiment == "shapes" else []
    folder = train(experiment, *scored, "trainer=ddp", "trainer.devices=1", "steps=4", *QUICK)
    assert read(folder)["global_step"] == 4
    assert torch.distributed.get_backend() == "nccl"


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
    folder, path = runs("shapes", *UNSCORED), image(tmp_path / "red.png", "red")
    here, there = load_both(folder, device)
    for option in ({}, {"beam_size": 3, "mbr_samples": 4, "seed": 1}):
        assert there.caption(path, **option)[0].text == here.caption(path, **option)[0].text


def test_a_table_writer_is_loaded_on_the_gpu(runs: SharedRuns, device: str) -> None:
    here, there = load_both(runs("toy_weather"), device)
    table = "city[Oslo], sky[cloudy], temperature[12]"
    for option in ({}, {"beam_size": 3, "n_best": 2}, {"temperature": 0.7, "seed": 1, "n_best": 2}):
        for expected, found in zip(here.generate(table, **option), there.generate(table, **option), strict=True):
            assert found.text == expected.text
            assert found.score == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
