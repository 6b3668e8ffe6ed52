"""METEOR against pycocoevalcap's own wrapper."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from attendgen.errors import UserError
from attendgen.metrics import meteor as module
from attendgen.metrics.captions import tokenise
from attendgen.metrics.meteor import meteor

java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java")

HYPOTHESES = {1: "A dog runs fast.", 2: "Two men are sitting on a bench", 3: "zzz qqq", "four": "A child's red hat !"}
REFERENCES = {
    1: ["The dog is running.", "A brown dog runs quickly through the grass", "a dog ||| runs"],
    2: ["Two people sit on a bench.", "Men seated outside"],
    3: ["A cat sleeps."],
    "four": ["A hat of a child", "the red hat belongs to the children"],
}


@pytest.mark.slow
@java
def test_equals_pycocoevalcaps_wrapper() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    theirs = Meteor()
    references = {key: [tokenise(text).replace("|||", " ") for text in texts] for key, texts in REFERENCES.items()}
    expected, _ = theirs.compute_score(references, {key: [tokenise(text)] for key, text in HYPOTHESES.items()})
    found = meteor(HYPOTHESES, REFERENCES)
    assert 0.1 < found < 1
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
@java
def test_an_empty_caption_scores_nothing_and_stops_nothing() -> None:
    assert meteor({1: "."}, {1: ["A dog runs."]}) == 0.0
    assert 0 < meteor({**HYPOTHESES, 3: ""}, REFERENCES) < 1


@pytest.mark.slow
@java
def test_a_package_in_a_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("pycocoevalcap.meteor.meteor")
    folder = shutil.copytree(Path(spec.origin).parent, tmp_path / "site packages" / "meteor")
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace(origin=str(folder / "meteor.py")))
    assert 0 < meteor(HYPOTHESES, REFERENCES) < 1


def test_without_java_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="java: not found"):
        meteor(HYPOTHESES, REFERENCES)


def test_a_program_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for script, said in (("exit 3", "ended early"), ("while read line; do echo Error: no; done", "Error: no")):
        program = tmp_path / "java"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(UserError, match=said):
            meteor(HYPOTHESES, REFERENCES)
