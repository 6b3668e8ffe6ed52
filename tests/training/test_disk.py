"""Full disks and folders that cannot be written to."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attendgen.hydra_app.app import run_hydra
from attendgen.utils.errors import UserError
from helpers.checkpoints import read

Train = Callable[..., Path]


def test_a_disk_too_full_for_the_checkpoints_is_reported_before_training(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"run: 0 MB are free, but the checkpoints need up to \d+ MB"):
        train("toy_chat")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = torch.save

    def save(checkpoint: dict, path: Path) -> None:
        whole(checkpoint, path)
        if checkpoint["global_step"] > 8:
            with path.open("r+b") as file:
                file.truncate(1000)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.save", save)
    with pytest.raises(
        UserError, match=r"ckpt: cannot be written: No space left on device; make room; the earlier checkpoints"
    ):
        train("toy_chat", "epochs=4", "validate_every=1", "decoding.max_length=4", "callbacks.samples=null")
    monkeypatch.undo()
    folder = tmp_path / "run"
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert read(folder)["global_step"] == 8
    run_hydra([f"resume={folder}"])
    assert read(folder)["global_step"] == 16


def test_a_folder_that_cannot_be_written_to_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        run_hydra(["experiment=toy_chat", f"paths.outputs={tmp_path / 'file'}"])
