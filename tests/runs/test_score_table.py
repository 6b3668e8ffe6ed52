"""Tables for papers: mean and deviation over seeds, order, marks of the best, and the four formats."""

import csv
import io
import statistics
from pathlib import Path

import pytest

from attendgen.runs.listing import RunSummary
from attendgen.runs.score_table import escape_latex, find_scores, make_score_table
from attendgen.runs.status import COMPLETE, RunStatus
from helpers.errors import refusal

SCORES = {
    ("none", "1"): {"bleu": 30.0, "perplexity": 4.0, "meteor": 0.21},
    ("none", "2"): {"bleu": 31.0, "perplexity": 4.5},
    ("a_b", "1"): {"bleu": 33.0, "perplexity": 5.0, "meteor": 0.2},
    ("a_b", "2"): {"bleu": 34.5, "perplexity": 5.5, "meteor": 0.22},
    ("a_b", "3"): {"bleu": 35.0, "perplexity": 5.25, "meteor": 0.24},
}


def make_run(gate: str, seed: str, scores: dict[str, float], metric: str = "val/bleu", mode: str = "max") -> RunSummary:
    overrides = {"experiment": "toy", "model.gate": gate, "epochs": "1"}
    return RunSummary(
        folder=Path(f"{gate}{seed}"),
        experiment="toy",
        metric=metric,
        mode=mode,
        score=None,
        evaluations={"dev": scores, "val.beam5": {"bleu": 40.0}},
        status=RunStatus(COMPLETE),
        started=seed,
        seed=seed,
        overrides=overrides if seed == "1" else {**overrides, "seed": seed},
    )


@pytest.fixture
def runs() -> list[RunSummary]:
    return [make_run(gate, seed, scores) for (gate, seed), scores in SCORES.items()]


def values(gate: str, metric: str) -> list[float]:
    return [scores[metric] for (name, _), scores in SCORES.items() if name == gate and metric in scores]


def test_a_row_is_a_setting_with_mean_and_deviation(runs: list[RunSummary]) -> None:
    text = make_score_table(runs, ["bleu", "perplexity"], "val", "setting").render("csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["settings"] for row in rows] == ["model.gate=a_b", "model.gate=none"], "the best first"
    for row, gate in zip(rows, ("a_b", "none"), strict=True):
        for metric in ("bleu", "perplexity"):
            assert float(row[f"{metric}_mean"]) == pytest.approx(statistics.fmean(values(gate, metric)))
            assert float(row[f"{metric}_std"]) == pytest.approx(statistics.stdev(values(gate, metric)))
        assert row["seeds"] == str(len(values(gate, "bleu")))


def test_the_first_metric_sorts_in_its_own_direction(runs: list[RunSummary]) -> None:
    table = make_score_table(runs, ["perplexity", "bleu"], "val", "setting")
    assert [row.settings for row in table.rows] == [["model.gate=none"], ["model.gate=a_b"]]
    assert [table.is_best(table.rows[0], metric) for metric in table.metrics] == [True, False]
    runs = [make_run(*key, scores, "val/meteor", "min") for key, scores in SCORES.items()]
    assert "meteor" in make_score_table(runs, ["meteor"], "val").lower, "the run's own direction counts"


def test_markdown_and_latex_mark_the_best(runs: list[RunSummary]) -> None:
    table = make_score_table(runs, ["bleu", "meteor"], "val", "setting")
    mean, std = statistics.fmean(values("a_b", "bleu")), statistics.stdev(values("a_b", "bleu"))
    meteor, spread = 100 * statistics.fmean(values("a_b", "meteor")), 100 * statistics.stdev(values("a_b", "meteor"))
    lines = table.render("md").splitlines()
    assert lines[0] == "| experiment | settings | seeds | bleu | meteor (%) |"
    cells = f"**{mean:.1f}** ± {std:.1f} | **{meteor:.1f}** ± {spread:.1f}"
    assert lines[2] == f"| toy | `model.gate=a_b` | 3 | {cells} |"
    assert "**" not in lines[3].replace("**21.0**", "")
    latex = table.render("latex")
    assert rf"$\mathbf{{{mean:.1f}}} \pm {std:.1f}$" in latex
    assert r"model.gate=a\_b" in latex
    assert r"meteor (\%)" in latex
    columns = {line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}
    assert columns == {4}
    assert "35.0" not in table.render("table")
    assert f"{mean:.1f} ± {std:.1f} *" in table.render("table")


def test_a_row_per_run_and_other_evaluations(runs: list[RunSummary]) -> None:
    rows = list(csv.DictReader(io.StringIO(make_score_table(runs, ["bleu"], "val").render("csv"))))
    assert [row["run"] for row in rows] == ["a_b3", "a_b2", "a_b1", "none2", "none1"]
    assert [float(row["bleu"]) for row in rows] == [35.0, 34.5, 33.0, 31.0, 30.0]
    assert {row["seed"] for row in rows} == {"1", "2", "3"}
    assert find_scores(runs[0], "dev.beam5") == {"bleu": 40.0}, "dev and val are the same split"
    assert find_scores(runs[0], "test") is None


def test_wrong_choices_are_refused(runs: list[RunSummary]) -> None:
    assert "--metrics bluu" in refusal(make_score_table, runs, ["bluu"], "val")
    assert "--by seed" in refusal(make_score_table, runs, ["bleu"], "val", "seed")
    assert "--format html" in refusal(make_score_table(runs, ["bleu"], "val").render, "html")


def test_reserved_signs_stand_for_themselves_in_latex() -> None:
    assert escape_latex(r"a_b & 50% {x} #1 $y ~ ^ \z") == (
        r"a\_b \& 50\% \{x\} \#1 \$y \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
