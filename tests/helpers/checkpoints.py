"""Reading and comparing the checkpoints of runs."""

from pathlib import Path
from typing import Any

import torch


def read(folder: Path, name: str = "last") -> dict[str, Any]:
    """Return the contents of a run's checkpoint."""
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same(one: object, other: object, where: str = "") -> None:
    """Check that the contents of two checkpoints are the same, bit for bit."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other or "dir" in where or "path" in where, where
