"""Evaluations in bfloat16 give nearly the scores of single precision, and files of their own."""

import json
from pathlib import Path

import pytest
import torch

from attendgen.evaluation.evaluate import evaluate, evaluate_run
from attendgen.evaluation.options import DynamicEvaluation, EvaluationOptions
from attendgen.runs.run import Run
from helpers.errors import refusal
from helpers.runs import SharedRuns


@pytest.mark.parametrize("experiment", ["toy_chat", "novels", "novels_lstm", "flickr8k_soft", "flickr8k_transformer"])
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


def test_devices_and_precisions_that_do_not_fit_are_refused(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = Run.find(runs("novels"))
    assert "--device cuda: PyTorch finds no GPU" in refusal(evaluate, run, out=tmp_path, device="cuda")
    assert "--precision 64" in refusal(evaluate, run, out=tmp_path, precision="64")
    options = EvaluationOptions(out=tmp_path, dynamic=DynamicEvaluation(0.1), precision="bf16")
    assert "--precision 32" in refusal(evaluate_run, run, options)
