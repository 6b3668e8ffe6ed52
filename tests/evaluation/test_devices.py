"""Evaluations in bfloat16 and by several processes give the scores of one process in single precision."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attendgen.evaluation.evaluate import evaluate, evaluate_many, evaluate_run
from attendgen.evaluation.options import DynamicEvaluation, EvaluationOptions
from attendgen.runs.run import Run
from helpers.errors import refusal
from helpers.processes import run_ranks
from helpers.runs import SharedRuns


@pytest.mark.parametrize(
    "experiment",
    [
        "toy_chat",
        "novels",
        pytest.param("novels_lstm", marks=pytest.mark.slow),
        pytest.param("flickr8k_soft", marks=pytest.mark.slow),
        pytest.param("flickr8k_transformer", marks=pytest.mark.slow),
    ],
)
def test_cross_entropy_in_bfloat16_is_near_that_in_single_precision(
    runs: SharedRuns, experiment: str, tmp_path: Path
) -> None:
    run = Run.find(runs(experiment))
    single = evaluate(run, out=tmp_path)
    half = evaluate(run, out=tmp_path, precision="bf16")
    assert half["perplexity"] == pytest.approx(single["perplexity"], rel=0.02)
    assert half["perplexity"] != single["perplexity"]
    assert json.loads((tmp_path / "settings_val.bf16.json").read_text())["precision"] == "bf16"
    assert json.loads((tmp_path / "metrics_val.json").read_text())["perplexity"] == single["perplexity"]


@pytest.mark.parametrize(
    "experiment", ["toy_chat", *(pytest.param(name, marks=pytest.mark.slow) for name in ("novels", "flickr8k_soft"))]
)
def test_several_processes_share_a_split(runs: SharedRuns, experiment: str, tmp_path: Path) -> None:
    run = Run.find(runs(experiment))
    alone = evaluate(run, out=tmp_path / "alone", device="cpu")

    def evaluate_share(rank: int) -> dict[str, float]:
        return dict(evaluate_run(run, EvaluationOptions(out=tmp_path / "shared", device="cpu", devices=2)))

    first, second = run_ranks(evaluate_share)
    assert second == {}
    assert first == pytest.approx(dict(alone), rel=1e-5)
    for path in (tmp_path / "alone").glob("[co][au]*"):  # captions or outputs
        assert (tmp_path / "shared" / path.name).read_text() == path.read_text()


@pytest.mark.slow
def test_command_starts_the_further_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attendgen", "evaluate", "toy-chat", "--device", "cpu", "--devices", "2"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True, check=True)
    alone = evaluate("toy-chat", out=tmp_path / "alone", device="cpu")
    assert done.stdout.count("exact_match") == 1, "one process prints"
    written = json.loads((tmp_path / "metrics_val.json").read_text())
    assert {name: written[name] for name in alone} == pytest.approx(dict(alone), rel=1e-5)


def test_devices_that_cannot_share_a_split_are_refused(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.find(runs("toy_chat"))

    def refuse(**options: Any) -> str:
        return refusal(evaluate_run, run, EvaluationOptions(out=tmp_path, **options))

    assert "--devices 0" in refuse(devices=0)
    assert "--save-attention needs one device" in refuse(devices=2, attention=tmp_path / "a.npz")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "PyTorch finds 2 GPUs" in refuse(devices=3, device="cuda")
    assert "excludes --device cuda:1" in refuse(devices=2, device="cuda:1")
    options = EvaluationOptions(devices=2)
    assert "evaluates one run" in refusal(lambda: list(evaluate_many(["a", "b"], options)))


def test_devices_and_precisions_that_do_not_fit_are_refused(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = Run.find(runs("novels"))
    assert "--device cuda: PyTorch finds no GPU" in refusal(evaluate, run, out=tmp_path, device="cuda")
    assert "--precision 64" in refusal(evaluate, run, out=tmp_path, precision="64")
    options = EvaluationOptions(out=tmp_path, dynamic=DynamicEvaluation(0.1), precision="bf16")
    assert "--precision 32" in refusal(evaluate_run, run, options)
