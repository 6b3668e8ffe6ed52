"""Runs are found by directory, checkpoint or name, and their models are built with the trained weights."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from attendgen.config.saved import to_plain_dict
from attendgen.models.seq2seq import Seq2Seq
from attendgen.runs.layout import BEST, CHECKPOINTS, CONFIG, LAST
from attendgen.runs.run import Run, select_model
from helpers.errors import refusal
from helpers.runs import SharedRuns


@pytest.fixture
def copy(runs: SharedRuns, tmp_path: Path) -> Path:
    """A run that may be changed."""
    return shutil.copytree(runs("toy_chat"), tmp_path / "run")


def test_run_is_found_by_directory_and_by_checkpoint(runs: SharedRuns) -> None:
    folder = runs("toy_chat")
    best = folder / CHECKPOINTS / BEST
    run, alone = Run.find(folder), Run.find(best)
    assert (run.folder, run.checkpoint) == (folder, best)
    assert (alone.folder, alone.checkpoint) == (None, best)
    assert to_plain_dict(run.config) == to_plain_dict(alone.config)
    assert run.vocabulary.to_dict() == alone.vocabulary.to_dict()
    assert run.family == "seq2seq"


def test_model_has_the_weights_of_the_checkpoint(runs: SharedRuns) -> None:
    run = Run.find(runs("toy_chat"))
    model = run.load_model()
    assert isinstance(model, Seq2Seq)
    assert not model.training
    saved = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    expected = {name[len("model.") :]: value for name, value in saved.items() if name.startswith("model.")}
    torch.testing.assert_close(dict(model.state_dict()), expected, rtol=0, atol=0)


def test_model_part_of_a_state_dict_is_selected() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    assert select_model({"model.a": one, "model.model.b": one, "estimator.model.a": two}) == {"a": one, "model.b": one}


def test_last_checkpoint_serves_until_there_is_a_best_one(copy: Path) -> None:
    (copy / CHECKPOINTS / BEST).unlink()
    assert Run.find(copy).checkpoint == copy / CHECKPOINTS / LAST
    shutil.rmtree(copy / CHECKPOINTS)
    assert refusal(Run.find, copy).startswith(f"{copy / CHECKPOINTS / BEST}: no such checkpoint; ")
    assert Run.find(copy, trained=False).folder == copy


def test_override_changes_a_copy_of_the_config(runs: SharedRuns) -> None:
    run = Run.find(runs("toy_chat"))
    changed = run.override(["decoding.beam_size=7"])
    assert changed.decoding.beam_size == changed.task.decoding.beam_size == 7
    assert run.config.decoding.beam_size == 1
    assert "model.widht: no such field" in refusal(run.override, ["model.widht=3"])
    assert "nonsense: expected key=value" in refusal(run.override, ["nonsense"])


def test_model_is_built_from_a_changed_config(runs: SharedRuns) -> None:
    run = Run.find(runs("toy_chat"))
    message = refusal(run.load_model, run.override(["model.hidden=5"]))
    assert message.startswith(f"{run.checkpoint}: weights of another model: ")
    message = refusal(run.load_model, run.override(["model.hidden=x"]))
    assert message.startswith("model: ")


def test_checkpoint_without_a_config_is_no_run(copy: Path) -> None:
    (copy / CONFIG).write_text(yaml.safe_dump({"seed": 1}))
    assert refusal(Run.find, copy) == (
        f"{copy / CONFIG}: data, model, task: missing, or not a group of fields; give the config of a run"
    )


def test_data_of_a_bundled_model_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTENDGEN_DATA", raising=False)
    assert Run.find("multi30k-fr-en").config.data.root == "data/multi30k"
    monkeypatch.setenv("ATTENDGEN_DATA", "/elsewhere")
    assert Run.find("multi30k-fr-en").config.data.root == "/elsewhere/multi30k"


def test_directory_of_a_bundled_models_name_hides_the_model(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-chat").mkdir()
    assert Run.find("toy-chat").family == "seq2seq", "a folder that is not a run hides nothing"
    shutil.copytree(runs("novels"), tmp_path / "toy-chat", dirs_exist_ok=True)
    assert Run.find("toy-chat").family == "language_model"


def test_folder_of_runs_names_the_newest_and_home_is_expanded(
    runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(runs("toy_chat"), tmp_path / "toy" / "one")
    assert Run.find("~/toy/one").family == "seq2seq"
    assert f"a folder of 1 runs; the newest is {tmp_path / 'toy' / 'one'}" in refusal(Run.find, "~/toy")
    assert "not a run directory" in refusal(Run.find, tmp_path)
