"""`attendgen ensemble`, `merge` and `rescale` write runs that the other commands read."""

import re
from pathlib import Path

from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_ensemble_makes_a_run(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    two = [runs("toy_chat")] * 2
    outcome = attendgen("ensemble", *two, "--out", tmp_path / "both", "--weights", "2,1")
    assert outcome.code == 0, outcome.err
    assert "weights: 2.0000,1.0000" in outcome.err
    assert attendgen("generate", tmp_path / "both", "Tu vas").code == 0
    assert_mistake(attendgen("ensemble", *two, "--out", tmp_path / "both"), tmp_path / "both", "holds a run")
    outcome = attendgen("ensemble", *two, "--out", tmp_path / "fitted", "--fit", "val")
    assert outcome.code == 0, outcome.err
    assert "weights: " in outcome.err


def test_ensemble_refuses_wrong_weights(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    two, out = [runs("toy_chat")] * 2, ("--out", tmp_path / "both")
    assert_mistake(attendgen("ensemble", *two, *out, "--weights", "2;1"), "--weights", "2;1")
    assert_mistake(attendgen("ensemble", *two, *out, "--weights", "2,1", "--fit", "val"), "--weights", "--fit")
    assert not (tmp_path / "both").exists()


def test_merge_makes_a_run(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    two = [runs("toy_chat")] * 2
    outcome = attendgen("merge", *two, "--out", tmp_path / "one", "--weights", "3,1")
    assert outcome.code == 0, outcome.err
    assert "weights: 0.7500,0.2500" in outcome.err
    alone, merged = (attendgen("generate", run, "Tu vas") for run in (two[0], tmp_path / "one"))
    assert merged.out == alone.out
    assert attendgen("merge", *two, "--out", tmp_path / "half").code == 0
    assert_mistake(attendgen("merge", *two, "--out", tmp_path / "one"), tmp_path / "one", "holds a run")
    assert_mistake(attendgen("merge", *two, "--out", tmp_path / "more", "--weights", "3;1"), "--weights", "3;1")
    assert not (tmp_path / "more").exists()


def test_rescale_makes_a_run_with_less_cross_entropy(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = runs("toy_chat")
    outcome = attendgen("rescale", run, "--out", tmp_path / "made", "data.batch_size=4")
    assert outcome.code == 0, outcome.err
    before, after = re.search(r"val: (\S+) -> (\S+) bits per token", outcome.err).groups()
    assert float(after) < float(before)
    assert attendgen("generate", tmp_path / "made", "Tu vas").code == 0
    assert_mistake(attendgen("rescale", run, "--out", tmp_path / "made"), "made", "holds a run")
    assert_mistake(attendgen("rescale", run, "--out", tmp_path / "more", "--fit", "dawn"), "dawn")
    assert not (tmp_path / "more").exists()
