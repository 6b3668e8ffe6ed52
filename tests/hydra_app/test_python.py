"""Training, evaluating and listing from Python."""

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import attendgen
from helpers.errors import refusal
from helpers.runs import SharedRuns
from helpers.tiny_data import arguments


def test_two_trainings_in_a_process_leave_it_as_it_was(tmp_path: Path) -> None:
    before = (sys.argv[:], dict(os.environ), logging.getLogger().handlers[:], logging.getLogger().level)
    runs = [
        attendgen.train(arguments("toy_chat", tmp_path, "trainer=smoke", f"seed={seed}", name=f"r{seed}"))
        for seed in (1, 2)
    ]
    assert [run.folder for run in runs] == [tmp_path / "r1", tmp_path / "r2"]
    assert [run.config.seed for run in runs] == [1, 2]
    handlers = logging.getLogger().handlers[:]
    assert (sys.argv, dict(os.environ), handlers, logging.getLogger().level) == before
    assert len(repr(runs[0])) < 300
    found = attendgen.find_runs(tmp_path)
    assert {run.folder for run in found} == {run.folder for run in runs}
    assert {run.seed for run in found} == {"1", "2"}
    resumed = attendgen.train([f"resume={tmp_path / 'r1'}", "trainer.max_steps=3"])
    assert resumed.folder == tmp_path / "r1"


def test_mistakes_are_user_errors(tmp_path: Path) -> None:
    assert "give a list" in refusal(attendgen.train, "experiment=toy_chat")
    assert "sweep" in refusal(attendgen.train, ["-m", "experiment=toy_chat", "seed=1,2"])
    assert "no_such" in refusal(attendgen.train, ["experiment=no_such", f"hydra.run.dir={tmp_path / 'run'}"])
    assert "no run was trained" in refusal(attendgen.train, ["experiment=toy_chat", "--cfg", "job"])
    with pytest.raises(attendgen.UserError):
        attendgen.evaluate(tmp_path)


def test_scores_have_outputs_and_attention(runs: SharedRuns, tmp_path: Path) -> None:
    run = attendgen.Run.find(runs("toy_chat"))
    scores = attendgen.evaluate(run, out=tmp_path, beam_size=2, length_penalty=1.0)
    written = json.loads((tmp_path / "metrics_val.beam2_lp1.0.json").read_text())
    assert dict(scores) == {name: value for name, value in written.items() if not name.endswith("_signature")}
    assert scores.outputs == (tmp_path / "outputs_val.beam2_lp1.0.txt").read_text().splitlines()
    assert scores.settings["decoding"]["beam_size"] == 2
    model = attendgen.load(run)
    for i in (0, 5):
        (expected,) = model.generate(str(scores.inputs[i]), beam_size=2, length_penalty=1.0)
        assert scores.results[i].tokens == expected.tokens
        np.testing.assert_allclose(scores.attention[i], expected.attention, atol=1e-5)
    assert len(repr(scores)) < 200
    assert json.loads(scores.to_json())["outputs"] == scores.outputs


def test_a_result_prints_short_and_converts(runs: SharedRuns) -> None:
    (result,) = attendgen.load(runs("toy_chat")).generate("Tu vas bien ?")
    assert len(repr(result)) < 150
    assert "array" not in repr(result)
    found = json.loads(result.to_json())
    assert found["tokens"] == result.tokens
    np.testing.assert_allclose(found["attention"], result.attention)
    np.testing.assert_allclose(found["log_probs"], result.log_probs)
