"""Captions and scores are written before METEOR's Java program may fail."""

import json
from pathlib import Path

import pytest

from attendgen.evaluation.evaluate import evaluate
from attendgen.metrics import meteor
from attendgen.runs.run import Run
from helpers.errors import Command
from helpers.runs import SharedRuns

FILES = ["captions_val.json", "metrics_val.json"]

pytestmark = pytest.mark.java


@pytest.fixture
def captioner(runs: SharedRuns) -> Path:
    return runs("flickr8k_soft")


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program on the PATH, which does nothing yet."""
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho no jar >&2; exit 1", "java ended with exit code 1: no jar"),
        ("#!/bin/sh\nwhile read -r line; do echo gibberish; done", "'gibberish'"),
        ("#!/bin/sh\nread -r line; echo 1 2; exit 4", "exit code 4"),
        ("#!/nowhere/sh", "cannot be started"),
    ],
)
def test_other_scores_are_written_if_meteor_fails(
    attendgen: Command, captioner, java, tmp_path, caplog, script, reason
):
    java.write_text(script)
    out = tmp_path / "out"
    assert attendgen("evaluate", captioner, "--out", out).code == 0
    (warning,) = [record.message for record in caplog.records if "METEOR" in record.message]
    assert warning.startswith("METEOR is left out: java")
    assert reason in warning
    assert "\n" not in warning
    assert len(json.loads((out / FILES[0]).read_text())) == 2
    metrics = json.loads((out / FILES[1]).read_text())
    assert "meteor" not in metrics
    assert {"bleu4", "cider", "seen_in_training"} < set(metrics)


def test_meteor_is_added_if_java_works(captioner, java, tmp_path):
    java.write_text(
        "#!/bin/sh\n"
        'while read -r line; do case $line in SCORE*) echo 1 2;; EVAL*) printf "0.5\\n0.5\\n0.25\\n";; esac; done\n'
    )
    run = Run.find(captioner)
    scores = evaluate(run, out=tmp_path)
    assert scores["meteor"] == 0.25
    assert json.loads((tmp_path / FILES[1]).read_text()) == scores


def test_captions_and_scores_are_kept_if_meteor_is_interrupted(captioner, java, tmp_path, monkeypatch):
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(meteor, "meteor", interrupt)
    run = Run.find(captioner)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, out=tmp_path)
    assert len(json.loads((tmp_path / FILES[0]).read_text())) == 2
    assert "bleu4" in json.loads((tmp_path / FILES[1]).read_text())
