"""Transformers of each family: train, resume, evaluate, generate or caption, ensemble with an LSTM."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attendgen.inference.load import load
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.errors import Command
from helpers.runs import SharedRuns

PARTNERS = {
    "multi30k_fr_en_transformer": ("multi30k_fr_en_words", "val", "bleu"),
    "novels_transformer": ("novels_lstm", "val", "bits_per_character"),
    "flickr8k_transformer": ("flickr8k_soft", "dev", "bleu4"),
}


def use(attendgen: Command, run: Path, folder: Path) -> Path:
    """Generate or caption with a run; return the figure of its attention."""
    figure = folder / "map.png"
    if "flickr8k" not in run.name:
        outcome = attendgen("generate", run, "Un chat dort", "--max-length", 5, "--attention", figure)
        assert outcome.code == 0, outcome.err
        return figure
    outcome = attendgen("caption", run, tiny_data.image(folder / "red.png", "red"), "--out", folder, "--max-length", 5)
    assert outcome.code == 0, outcome.err
    return folder / "red_attention.png"


@pytest.mark.parametrize("experiment", PARTNERS)
def test_a_transformer_is_evaluated_and_generates(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, experiment: str
) -> None:
    _, split, metric = PARTNERS[experiment]
    run = runs(experiment)
    beam = [] if "novels" in experiment else ["decoding.beam_size=3"]
    outcome = attendgen("evaluate", run, "--split", split, "--out", tmp_path, *beam)
    assert outcome.code == 0, outcome.err
    (scores,) = tmp_path.glob(f"metrics_{split}*.json")  # its name says the beam
    assert np.isfinite(json.loads(scores.read_text())[metric])
    assert Image.open(use(attendgen, run, tmp_path)).size[0] > 100


@pytest.mark.slow
@pytest.mark.parametrize("experiment", PARTNERS)
def test_a_transformer_is_resumed(attendgen: Command, runs: SharedRuns, train, tmp_path: Path, experiment: str) -> None:
    folder = train(experiment, "trainer=smoke", "callbacks.samples=null")
    changes = ("trainer.max_steps=3", "trainer.max_epochs=9", "trainer.limit_train_batches=2")
    outcome = attendgen("train", f"resume={folder}", *changes)
    assert outcome.code == 0, outcome.err
    assert read(folder)["global_step"] == 3


@pytest.mark.parametrize("experiment", PARTNERS)
def test_an_ensemble_may_hold_a_transformer_and_an_lstm(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, experiment: str
) -> None:
    pair = [runs(experiment), runs(PARTNERS[experiment][0])]
    outcome = attendgen("ensemble", *pair, "--out", tmp_path / f"{experiment}_pair")
    assert outcome.code == 0, outcome.err
    assert Image.open(use(attendgen, tmp_path / f"{experiment}_pair", tmp_path)).size[0] > 100


def test_the_score_of_a_text_equals_that_of_its_generation(runs: SharedRuns) -> None:
    model = load(runs("novels_transformer"))
    found = model.generate("It was the best", max_length=40, temperature=1.0, seed=3)[0]
    forced = model.score("It was the best", found.text)
    assert forced.tokens == found.tokens
    assert len(found.source) == found.attention.shape[1] == len("It was the best") + 40
    np.testing.assert_allclose(forced.log_probs, found.log_probs, atol=1e-5)
    np.testing.assert_allclose(forced.attention, found.attention, atol=1e-5)
