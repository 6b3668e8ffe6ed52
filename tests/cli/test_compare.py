"""`attendgen compare` and `attendgen runs --metrics`, on runs that were evaluated."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from attendgen.cli.app import app
from attendgen.evaluation.compare import compare
from attendgen.runs.run import Run
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


@pytest.fixture(scope="module")
def evaluated_once(runs: SharedRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs of one setting with different seeds, evaluated greedily and with a beam of 3."""
    base = tmp_path_factory.mktemp("evaluated")
    folders = [base / name for name in ("a", "b")]
    for seed, folder in enumerate(folders):
        shutil.copytree(runs("toy_chat"), folder)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attendgen.metrics.meteor.is_java_present", lambda: False)
        for change in ([], ["decoding.beam_size=3"]):
            assert not app(["evaluate", *map(str, folders), *change], standalone_mode=False)
    lines = (folders[1] / "outputs_val.txt").read_text().split("\n")[:-1]
    (folders[1] / "outputs_val.txt").write_text("".join(f"{line}\n" for line in ["Salut.", *lines[1:]]))
    return base


@pytest.fixture
def evaluated(evaluated_once: Path, tmp_path: Path) -> list[Path]:
    """Copies of these runs, to change."""
    shutil.copytree(evaluated_once, tmp_path / "runs")
    return [tmp_path / "runs" / name for name in ("a", "b")]


def test_runs_are_compared(attendgen: Command, evaluated: list[Path], tmp_path: Path) -> None:
    first, second = evaluated
    outcome = attendgen("compare", first, second, "--metric", "chrf", "--samples", 50, "--json", tmp_path / "c.json")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["inputs"], found["samples"]) == (19, 50)
    assert found["first"] == pytest.approx(json.loads((first / "metrics_val.json").read_text())["chrf"], abs=1e-4)
    assert found["difference"] != 0
    same = attendgen("compare", first, second, "--tag", "beam3", "--json", tmp_path / "c.json")
    assert same.code == 0, same.err
    assert json.loads((tmp_path / "c.json").read_text())["p_value"] == 1
    assert attendgen("compare", first, first, "--second-tag", "beam3", "--metric", "exact_match").code == 0
    assert attendgen("compare", tmp_path / "runs", first, "--json", tmp_path / "c.json").code == 0
    assert json.loads((tmp_path / "c.json").read_text())["seeds"] == [2, 1]
    assert compare(Run.find(first), Run.find(second), metric="chrf", samples=50).difference == found["difference"]


def test_pairs_must_share_their_inputs(attendgen: Command, evaluated: list[Path], tmp_path: Path) -> None:
    first, second = evaluated
    (tmp_path / "other.tsv").write_text("Salut\tBonjour\nOui\tNon\n")
    change = f"data.val={tmp_path / 'other.tsv'}"
    assert attendgen("evaluate", first, change, "--tag", "other").code == 0
    assert_mistake(attendgen("compare", first, second, "--tag", "other", "--second-tag", ""), "different inputs")
    assert_mistake(attendgen("compare", first, second, "--split", "test"), "outputs_test.txt", "evaluate")
    assert_mistake(attendgen("compare", first, second, "--metric", "cross_entropy"), "--metric cross_entropy")
    config = yaml.safe_load((first / "config.yaml").read_text())
    (first / "config.yaml").write_text(yaml.safe_dump({**config, "name": "another"}))
    assert_mistake(attendgen("compare", first.parent, second), "2 settings")
    (second / "outputs_val.txt").unlink()
    assert_mistake(attendgen("compare", second, first), "outputs_val.txt", "evaluations of val have the tags", "beam3")


def test_runs_makes_a_table_of_evaluations(attendgen: Command, evaluated: list[Path], tmp_path: Path) -> None:
    folder = evaluated[0].parent
    command = ("runs", folder, "--metrics", "chrf", "exact_match", "--by", "setting")
    outcome = attendgen(*command, "--format", "csv", "--output", tmp_path / "t.csv")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    scores = json.loads((evaluated[0] / "metrics_val.json").read_text())
    assert row["seeds"] == "2"
    assert float(row["chrf_mean"]) == pytest.approx(scores["chrf"])
    (evaluated[1] / "metrics_val.beam3.json").unlink()
    outcome = attendgen(*command, "--tag", "beam3", "--format", "latex", "--commands")
    assert outcome.code == 0, outcome.err
    assert "b: no metrics_val.beam3.json; left out; attendgen evaluate writes it" in outcome.err
    assert r"\bottomrule" in outcome.out
    assert_mistake(attendgen(*command, "--split", "test"), "no run with metrics_test.json")
    assert_mistake(attendgen("runs", folder, "--format", "md"), "--metrics")
