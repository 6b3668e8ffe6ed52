"""A run starts only in a folder where it overwrites nothing."""

import os
from pathlib import Path

import pytest

from attendgen.runs.folder import require_free, require_no_run, require_run
from attendgen.runs.layout import CONFIG, FILES, FOLDERS, HYDRA, VOCABULARY
from helpers.errors import refusal


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_folder_with_a_file_that_a_run_writes_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    require_free(tmp_path, "--out")
    (tmp_path / name).touch()
    message = refusal(require_free, tmp_path, "--out")
    assert message == f"{tmp_path}: holds {name}, which a run would write over; give --out a new or empty folder"
    require_free(tmp_path, "--out", ignored=(name,))


def test_a_training_that_was_killed_before_it_began_is_named(tmp_path: Path) -> None:
    (tmp_path / HYDRA).mkdir()
    (tmp_path / HYDRA / CONFIG).touch()
    message = refusal(require_run, tmp_path)
    assert message == f"{tmp_path / CONFIG}: no such file; this training ended before it began, start it again"


def test_dangling_link_is_a_file(tmp_path: Path) -> None:
    os.symlink(tmp_path / "nowhere", tmp_path / CONFIG)
    assert f"holds {CONFIG}" in refusal(require_free, tmp_path, "--out")


def test_folder_with_a_run_is_refused(tmp_path: Path) -> None:
    require_no_run(tmp_path / "new", "--out")
    (tmp_path / CONFIG).touch()
    require_no_run(tmp_path, "--out")
    (tmp_path / VOCABULARY).touch()
    expected = f"{tmp_path}: holds a run already; continue it with resume={tmp_path}, or give another --out"
    assert refusal(require_no_run, tmp_path, "--out") == expected
    assert refusal(require_free, tmp_path, "--out", ignored=(CONFIG, VOCABULARY)) == expected
