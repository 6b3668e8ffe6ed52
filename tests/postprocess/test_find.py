"""Runs that cannot be combined are named."""

from pathlib import Path

import pytest

from attendgen.postprocess.ensembling import make_ensemble
from attendgen.postprocess.find import find_compatible_runs
from attendgen.postprocess.merging import merge
from helpers.errors import refusal
from helpers.runs import SharedRuns

CHAT, LETTERS, LSTM = ("toy_chat",), ("toy_chat_letters", "epochs=1"), ("novels_lstm",)


def test_runs_of_one_family_and_vocabulary_are_found(runs: SharedRuns, tmp_path: Path) -> None:
    names = [str(runs(*CHAT)), str(runs(*CHAT) / "checkpoints" / "best.ckpt")]
    found = find_compatible_runs("merge", names, tmp_path / "new")
    assert [run.checkpoint for run in found] == [Path(names[1])] * 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("combine", [make_ensemble, merge])
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([CHAT], ["name two runs or more"]),
        ([CHAT, LSTM], ["novels_lstm: family language_model", "toy_chat has seq2seq"]),
        ([CHAT, LETTERS], ["toy_chat_letters", "vocabulary: other tokens"]),
    ],
)
def test_runs_that_cannot_be_combined_are_named(runs: SharedRuns, tmp_path: Path, combine, members, words) -> None:
    message = refusal(combine, [str(runs(*member)) for member in members], tmp_path / "both")
    for word in words:
        assert word in message
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("combine", [make_ensemble, merge])
def test_ensembles_and_folders_with_a_run_are_refused(runs: SharedRuns, tmp_path: Path, combine) -> None:
    pair = [str(runs(*CHAT))] * 2
    make_ensemble(pair, tmp_path / "both")
    before = (tmp_path / "both" / "config.yaml").read_bytes()
    assert "both: holds a run already" in refusal(combine, pair, tmp_path / "both")
    assert (tmp_path / "both" / "config.yaml").read_bytes() == before
    message = refusal(combine, [str(tmp_path / "both"), *pair], tmp_path / "more")
    assert "both: model.members: an ensemble itself" in message
    assert not (tmp_path / "more").exists()
