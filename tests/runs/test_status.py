"""How a run ended is told apart, from its files alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attendgen.runs.layout import CONFIG, ERROR, FIT_METRICS, HISTORY
from attendgen.runs.status import RunStatus, begin_session, end_session, read_history, read_status
from helpers.errors import refusal
from helpers.runs import SharedRuns


def test_a_session_that_has_not_ended_is_not_finished(tmp_path: Path) -> None:
    begin_session(tmp_path, ["seed=2"])
    assert str(read_status(tmp_path)) == "not finished"
    end_session(tmp_path, RunStatus("complete", "3 epochs, 9 steps"), steps=9)
    assert str(read_status(tmp_path)) == "complete (3 epochs, 9 steps)"
    begin_session(tmp_path, ["epochs=4"], step=9)
    assert read_status(tmp_path).state == "not finished"
    end_session(tmp_path, RunStatus("stopped early", "no better val/bleu for 20 validations"))
    assert str(read_status(tmp_path)) == "stopped early: no better val/bleu for 20 validations"
    first, second = read_history(tmp_path)
    assert (first["step"], first["changes"], first["steps"], first["state"]) == (0, ["seed=2"], 9, "complete")
    assert (second["step"], second["changes"], second["state"]) == (9, ["epochs=4"], "stopped early")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([ERROR, CONFIG], "failed: hidden=-1"),
        ([CONFIG, FIT_METRICS], "complete"),
        ([CONFIG], "not finished"),
        ([], "complete"),
    ],
)
def test_a_folder_without_a_history_is_told_by_its_files(tmp_path: Path, files: list[str], expected: str) -> None:
    for name in files:
        (tmp_path / name).write_text(json.dumps({"error": "hidden=-1"}))
    assert str(read_status(tmp_path)) == expected


def test_the_status_is_read_without_torch() -> None:
    code = "import sys, attendgen.runs.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_history_is_one_line(tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_text("[{")
    assert f"{HISTORY}: line 1: broken JSON" in refusal(read_status, tmp_path)


def test_a_model_that_was_made_without_training_says_so(runs: SharedRuns, tmp_path: Path, attendgen) -> None:
    one = runs("toy_chat")
    assert attendgen("merge", one, one, "--out", tmp_path / "merged").code == 0
    assert read_status(tmp_path / "merged").state == "not trained"
