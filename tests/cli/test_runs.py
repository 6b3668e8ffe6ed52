"""`attendgen train` and `attendgen runs`, and what the command line takes for a run."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from attendgen.inference.load import load
from attendgen.runs.bundle import bundle
from attendgen.runs.run import Run
from attendgen.utils import resources
from attendgen.utils.resources import bundled_file
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns

FAMILIES = ("toy_chat", "novels", "flickr8k_soft")


def test_runs_lists_experiments_and_scores(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for experiment in FAMILIES:
        shutil.copytree(runs(experiment), tmp_path / experiment)
    monkeypatch.chdir(tmp_path)  # short paths leave room for the other columns
    outcome = attendgen("runs", ".")
    assert outcome.code == 0
    for word in (*FAMILIES, "val/bits_per_character", "val/bleu4", "val/exact_match"):
        assert word in outcome.out


def test_runs_writes_csv(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = runs("toy_chat")
    assert attendgen("runs", runs.folder, "--csv", tmp_path / "runs.csv").code == 0
    assert str(run) in (tmp_path / "runs.csv").read_text()


def test_train_accepts_options_between_overrides(attendgen: Command) -> None:
    outcome = attendgen("train", "experiment=toy_chat", "--cfg", "job", "seed=4", "-p", "seed")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == "4"
    assert_mistake(attendgen("train", "-m", "experiment=toy_chat", "--cfg", "job", "seed=4"), "--multirun", "--cfg")


def test_checkpoint_file_is_a_run(attendgen: Command, runs: SharedRuns) -> None:
    run = runs("toy_chat")
    best = run / "checkpoints" / "best.ckpt"
    found = attendgen("generate", best, "Tu vas")
    assert found.code == 0, found.err
    assert found.out == attendgen("generate", run, "Tu vas").out
    assert_mistake(attendgen("evaluate", best), "best.ckpt", "--out")


@pytest.fixture
def installed(runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that is also the bundled model "chat" of an installed package, in the working directory."""
    run = Run.find(runs("toy_chat"))
    defaults = {"data.root": ".", "data.train": "${bundled:toy_chat.tsv}"}
    bundle(run, "chat", tmp_path / "models" / "chat", defaults)
    (tmp_path / "models" / "chat" / "README.md").write_text("Answers.\n\nMore.\n")
    shutil.copy(bundled_file("toy_chat.tsv"), tmp_path)
    monkeypatch.setattr(resources, "INSTALLED", tmp_path)
    monkeypatch.chdir(tmp_path)
    return run


def test_bundled_model_is_listed_and_used_by_its_name(attendgen: Command, installed: Run, tmp_path: Path) -> None:
    assert "Answers." in attendgen("runs", "--bundled").out
    assert attendgen("generate", "chat", "Tu vas").code == 0
    outcome = attendgen("evaluate", "chat")
    assert outcome.code == 0, outcome.err
    scores = json.loads((tmp_path / "outputs" / "bundled" / "chat" / "metrics_val.json").read_text())
    assert scores["cross_entropy"] > 0
    assert_mistake(attendgen("generate", "chit", "Tu vas"), "chit", "bundled")


def test_bundled_model_has_the_weights_in_half_precision(installed: Run) -> None:
    weights = {name: weight.half().float() for name, weight in installed.load_model().state_dict().items()}
    found = load("chat").model.state_dict()
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(found[name], weight)
