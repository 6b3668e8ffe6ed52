"""Tables of runs: settings, best, mean and std over seeds, failures."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from attendgen.runs.grouping import find_best, group_by_seed
from attendgen.runs.listing import find_runs
from attendgen.runs.tables import make_runs_table, make_seeds_table, write_csv
from helpers.errors import refusal

SCORES = {("8", 1): 3.0, ("8", 2): 4.5, ("8", 3): 4.0, ("16", 1): 2.0, ("16", 2): None}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The folder of a sweep: two sizes, up to three seeds, one failure before training."""
    for number, ((hidden, seed), score) in enumerate(SCORES.items()):
        folder = tmp_path / str(number)
        (folder / ".hydra").mkdir(parents=True)
        overrides = ["experiment=toy_chat", f"seed={seed}", f"model.hidden={hidden}", "epochs=1"]
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        config = {"name": "toy_chat", "monitor": {"metric": "val/loss", "mode": "min"}}
        if score is None:
            (folder / ".hydra" / "trial.yaml").write_text(yaml.safe_dump({"config": config}))
            (folder / "error.json").write_text(json.dumps({"error": "out of memory", "time": "2026-01-01T00:00:09"}))
            continue
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics_fit.json").write_text(json.dumps({"val/loss": score}))
        (folder / "environment.json").write_text(json.dumps({"started": f"2026-01-01T00:00:0{number}+00:00"}))
    (tmp_path / "0" / "metrics_test.json").write_text(json.dumps({"loss": 3.25, "loss_signature": "nrefs:1"}))
    (tmp_path / "0" / "metrics_test.beam5.json").write_text(json.dumps({"loss": 2.5}))
    return tmp_path


def test_table_of_trials_shows_the_settings_that_differ(sweep: Path) -> None:
    rows = make_runs_table(find_runs(sweep))
    assert [row[0] for row in rows] == [str(sweep / name) for name in "43210"], "newest first"
    assert rows[0][2:5] == ["seed=2 model.hidden=16", "", "failed: out of memory"]
    assert rows[-1][2:5] == ["seed=1 model.hidden=8", "val/loss 3, test.beam5/loss 2.5, test/loss 3.25", "complete"]


def test_mean_and_std_are_over_the_seeds(sweep: Path) -> None:
    groups = {group.setting["model.hidden"]: group for group in group_by_seed(find_runs(sweep))}
    scores = [score for (hidden, _), score in SCORES.items() if hidden == "8"]
    assert groups["8"].mean == pytest.approx(np.mean(scores))
    assert groups["8"].std == pytest.approx(np.std(scores, ddof=1))
    assert (groups["16"].scores, groups["16"].std, groups["16"].failed) == ([2.0], None, 1)
    rows = make_seeds_table(group_by_seed(find_runs(sweep)))
    assert [row[0] for row in rows] == ["model.hidden=16", "model.hidden=8"], "the least loss first"


def test_a_run_with_the_default_seed_joins_its_group(sweep: Path) -> None:
    config = {"name": "toy_chat", "seed": 1, "monitor": {"metric": "val/loss", "mode": "min"}}
    (sweep / "3" / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 42}))
    overrides = ["experiment=toy_chat", "model.hidden=16", "epochs=1", "paths.outputs=/elsewhere", "data.root=/there"]
    (sweep / "3" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (sweep / "4" / "error.json").unlink()
    (sweep / "4" / "config.yaml").write_text(yaml.safe_dump({**config, "seed": 2}))
    (sweep / "4" / "metrics_fit.json").write_text(json.dumps({"val/loss": 1.0}))
    groups = {group.setting["model.hidden"]: group for group in group_by_seed(find_runs(sweep))}
    assert sorted(groups["16"].scores) == [1.0, 2.0]


def test_lists_print_short_and_convert(sweep: Path) -> None:
    found = find_runs(sweep)
    assert len(repr(found).splitlines()) == len(SCORES)
    rows = json.loads(found.to_json())
    assert [row["folder"] for row in rows] == [str(run.folder) for run in found]
    assert rows[-1]["evaluations"] == {"test": {"loss": 3.25}, "test.beam5": {"loss": 2.5}}
    found.to_csv(sweep / "table.csv")
    assert "test.beam5/loss" in (sweep / "table.csv").read_text()


def test_best_trial_follows_the_mode_of_the_metric(sweep: Path) -> None:
    runs = find_runs(sweep)
    best = find_best(runs)
    assert best is not None
    assert best.folder == sweep / "3"
    for run in runs:
        run.mode = "max"
    best = find_best(runs)
    assert best is not None
    assert best.folder == sweep / "1"
    runs[0].metric = "val/other"
    assert find_best(runs) is None, "scores of two kinds have no best"


def test_csv_has_a_column_for_each_setting(sweep: Path) -> None:
    write_csv(sweep / "table.csv", find_runs(sweep))
    with (sweep / "table.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(SCORES)
    for number, ((hidden, seed), score) in enumerate(SCORES.items()):
        row = rows[str(sweep / str(number))]
        assert (row["setting:model.hidden"], row["setting:seed"]) == (hidden, str(seed))
        assert row["score"] == ("" if score is None else str(score))
        assert (row["error"] == "out of memory") == (score is None)
        assert row["seeds"] == {"8": "3", "16": "1"}[hidden]


def test_broken_runs_are_left_out_of_the_list(sweep: Path) -> None:
    (sweep / "0" / "config.yaml").write_text("[")
    (sweep / "1" / "metrics_fit.json").write_text("{")
    assert len(find_runs(sweep)) == len(SCORES) - 2


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "none: no such folder" in refusal(find_runs, tmp_path / "none")
