"""Configs that tests compose faster are those that Hydra composes."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def composed(folder: Path, *overrides: str) -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("main", list(overrides))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "main", "defaults: [model: small, _self_]\nsteps: 1\n")
    write(tmp_path, "model/small", "dim: 2\n")
    write(tmp_path, "model/large", "dim: 9\nlayers: 3\n")
    return tmp_path


def test_the_same_files_take_other_values(folder: Path) -> None:
    assert composed(folder) == {"model": {"dim": 2}, "steps": 1}
    first = composed(folder, "steps=5", "+model.extra=7")
    assert first == {"model": {"dim": 2, "extra": 7}, "steps": 5}
    OmegaConf.set_struct(first, False)
    first.model.dim = 100
    again = composed(folder)
    assert again == {"model": {"dim": 2}, "steps": 1}
    with pytest.raises(ConfigAttributeError):
        again.model.unknown = 1
    assert composed(folder, "model=large") == {"model": {"dim": 9, "layers": 3}, "steps": 1}
    assert composed(folder, "~model") == {"steps": 1}


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    for dim in (3, 4):  # as long as before
        write(folder, "model/small", f"dim: {dim}\n")
        assert composed(folder).model.dim == dim
    write(folder, "main", "defaults: [model: large, _self_]\nsteps: 1\n")
    assert composed(folder).model.dim == 9
