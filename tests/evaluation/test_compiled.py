"""An evaluation replays decoding steps if it is asked to."""

from pathlib import Path

import pytest

from attendgen.decoding.graphs import DecodingGraphs
from attendgen.evaluation import evaluate as module
from attendgen.evaluation import options
from attendgen.evaluation.evaluate import evaluate
from helpers.errors import refusal
from helpers.rerun import RerunRecorder
from helpers.runs import SharedRuns


def test_scores_are_those_of_plain_decoding(runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RerunRecorder()
    monkeypatch.setattr(options, "require_gpu", lambda *_: None)
    monkeypatch.setattr(module, "DecodingGraphs", lambda: DecodingGraphs(lambda: recorder))
    plain, compiled = (
        evaluate(runs("toy_chat"), out=tmp_path / str(choice), device="cpu", compile=choice) for choice in (False, True)
    )
    assert recorder.replayed > 0
    assert dict(compiled) == pytest.approx(dict(plain), rel=1e-5)
    assert [one.text for one in compiled.results] == [one.text for one in plain.results]
    assert compiled.settings["compile"]
    assert "compile" not in plain.settings


def test_what_cannot_be_compiled_is_refused(runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(evaluate, runs("toy_chat"), out=tmp_path, device="cpu", compile=True)
    assert "--compile: needs a GPU" in message
    monkeypatch.setattr(options, "require_gpu", lambda *_: None)
    message = refusal(evaluate, runs("novels"), out=tmp_path, device="cpu", compile=True)
    assert "--compile: a language model decodes nothing in an evaluation; leave it out" in message
