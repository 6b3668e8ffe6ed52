"""Fitting in bfloat16 finds what single precision finds, and keeps the weights in single precision."""

from pathlib import Path

import pytest
import torch

from attendgen.postprocess import rescaling
from attendgen.postprocess.ensembling import make_ensemble
from attendgen.postprocess.rescaling import rescale
from attendgen.runs.run import Run
from helpers.errors import refusal
from helpers.runs import SharedRuns


@pytest.mark.parametrize("experiment", ["novels_lstm", "flickr8k_soft"])
def test_gains_are_fitted_in_bfloat16(
    runs: SharedRuns, tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescaling, "STEPS", 6)
    run = Run.find(runs(experiment))
    (single, _), (half, after) = (
        rescale(run, run.config, tmp_path / precision, device="cpu", precision=precision)
        for precision in ("32", "bf16")
    )
    assert half == pytest.approx(single, rel=0.01)
    assert half != single
    assert after <= half
    assert {weight.dtype for weight in Run.find(tmp_path / "bf16").load_model().parameters()} == {torch.float32}


@pytest.mark.slow
def test_weights_of_an_ensemble_are_fitted_in_bfloat16(runs: SharedRuns, tmp_path: Path) -> None:
    names = [str(runs("toy_chat")), str(runs("toy_chat", "model.hidden=12"))]
    single, half = (
        make_ensemble(names, tmp_path / precision, fit="val", device="cpu", precision=precision)
        for precision in ("32", "bf16")
    )
    assert half == pytest.approx(single, rel=0.1, abs=0.05)
    assert half != single


def test_devices_and_precisions_that_do_not_exist_are_refused(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = Run.find(runs("toy_chat"))
    assert "--device cuda" in refusal(rescale, run, run.config, tmp_path / "out", device="cuda")
    assert "--precision half" in refusal(make_ensemble, ["a", "b"], tmp_path / "out", precision="half")
    assert not (tmp_path / "out").exists()
