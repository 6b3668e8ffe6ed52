"""Checkpoints are read as plain data, and broken ones are named."""

import pickle
from pathlib import Path

import pytest
import torch

from attendgen.runs.checkpoint import find_newest_checkpoint, read_checkpoint, read_weights
from attendgen.runs.layout import LAST, PREVIOUS, RECORD
from helpers.errors import refusal


def save(path: Path, **changes: object) -> Path:
    """Write a checkpoint with the fields of one of AttendGen."""
    record = {"config": {"seed": 1}, "vocabulary": {"tokens": []}}
    whole = {RECORD: record, "state_dict": {"weight": torch.ones(2)}, "global_step": 3, **changes}
    torch.save({name: value for name, value in whole.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("mapped", [False, True])
def test_checkpoint_is_read(tmp_path: Path, mapped: bool) -> None:
    checkpoint = read_checkpoint(save(tmp_path / "best.ckpt"), mapped)
    assert checkpoint[RECORD]["config"] == {"seed": 1}
    assert torch.equal(checkpoint["state_dict"]["weight"], torch.ones(2))


class Code:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("mapped", [False, True])
def test_broken_checkpoints_are_named_and_run_no_code(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "best.ckpt"
    assert refusal(read_checkpoint, path, mapped).startswith(f"{path}: no such checkpoint; ")
    whole = save(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(read_checkpoint, path, mapped).startswith(f"{path}: broken")
    path.write_bytes(pickle.dumps(Code(tmp_path / "touched"), protocol=2))
    assert refusal(read_checkpoint, path, mapped).startswith(f"{path}: broken")
    save(path, hyper_parameters=Code(tmp_path / "touched"))
    assert refusal(read_checkpoint, path, mapped).startswith(f"{path}: broken")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "changes", [{RECORD: None}, {"state_dict": None}, {RECORD: {"config": {}}}, {RECORD: [1]}], ids=str
)
def test_checkpoints_of_other_programs_are_refused(tmp_path: Path, changes: dict) -> None:
    assert "give a checkpoint of AttendGen" in refusal(read_checkpoint, save(tmp_path / "best.ckpt", **changes))


def test_previous_checkpoint_replaces_a_broken_last_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_newest_checkpoint(tmp_path) is None
    save(tmp_path / PREVIOUS, global_step=2)
    found = find_newest_checkpoint(tmp_path)
    assert found is not None
    assert (found.path, found.step) == (tmp_path / PREVIOUS, 2)
    save(tmp_path / LAST, global_step=4, callbacks={"EMA": {}})
    assert find_newest_checkpoint(tmp_path) == (tmp_path / LAST, 4, {"EMA": {}}, 0.0)
    assert not caplog.records
    (tmp_path / LAST).write_bytes(b"PK")
    found = find_newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 2
    assert str(tmp_path / LAST) in caplog.text
    (tmp_path / PREVIOUS).write_bytes(b"")
    assert refusal(find_newest_checkpoint, tmp_path).startswith(f"{tmp_path / LAST}: broken")


def test_weights_are_read_from_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2)}, path)
    assert torch.equal(read_weights(path)["a"], torch.ones(2))
    for content in ([1, 2], {"a": 1}):
        torch.save(content, path)
        assert refusal(read_weights, path).startswith(f"{path}: not a state dict")
    path.write_bytes(b"PK\x03\x04 nothing")
    assert refusal(read_weights, path).startswith(f"{path}: broken")
    assert refusal(read_weights, tmp_path / "none.pt") == f"{tmp_path / 'none.pt'}: no such file; check the path"
