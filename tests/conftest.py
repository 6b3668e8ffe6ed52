"""Shapes and types in signatures are checked at run time, in tests only."""

from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("attendgen", "beartype.beartype")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Path:
    """The folder of data and checkpoints beside the repository, where there is one."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder
