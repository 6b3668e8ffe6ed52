"""A run that an earlier version saved opens, is scored, generates and resumes.

`saved_run` was made by `attendgen train experiment=toy_chat trainer=smoke model.hidden=8`; then the paths in its config
and in the record of its checkpoint were made relative. A change of AttendGen that breaks these tests breaks the runs of
all users: give old settings a meaning instead of making the run anew.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import attendgen
from attendgen.evaluation.evaluate import evaluate
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.layout import RECORD
from attendgen.runs.run import Run

SAVED = Path(__file__).parent / "saved_run"
BEST = SAVED / "checkpoints" / "best.ckpt"


def test_the_run_is_small_and_names_no_folder_of_a_machine() -> None:
    assert BEST.stat().st_size < 100_000
    for path in (SAVED / "config.yaml", BEST):
        content = path.read_bytes()
        for folder in (b"/work", b"/tmp", b"/home", b"/root"):
            assert folder not in content, (path, folder)


@pytest.mark.parametrize("path", [SAVED, BEST], ids=["folder", "checkpoint"])
def test_the_run_opens_and_generates(path: Path) -> None:
    model = attendgen.load(path)
    assert model.model.output.weight.dtype == torch.float32
    (result,) = model.generate("tu vas bien ?", max_length=8)
    assert 1 <= len(result.tokens) <= 8
    assert result.attention.shape == (len(result.tokens), len(result.source))
    best = model.generate("tu vas bien ?", beam_size=3, n_best=3, max_length=8)
    assert [output.score for output in best] == sorted((output.score for output in best), reverse=True)


def test_the_run_has_the_scores_that_it_had(tmp_path: Path) -> None:
    run = Run.find(SAVED)
    scores = evaluate(run, out=tmp_path, max_length=8)
    assert scores["cross_entropy"] == pytest.approx(json.loads((SAVED / "metrics.json").read_text())["cross_entropy"])


def test_the_run_resumes(tmp_path: Path) -> None:
    folder = shutil.copytree(SAVED, tmp_path / "run")
    (folder / "checkpoints" / "best.ckpt").rename(folder / "checkpoints" / "last.ckpt")
    run_hydra([f"resume={folder}", "trainer.max_steps=3", "trainer.max_epochs=3", "decoding.max_length=4"])
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert checkpoint[RECORD]["config"]["model"]["hidden"] == 8
