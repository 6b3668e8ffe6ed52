"""A training step of each family on a GPU has the gradients of a CPU in double precision."""

import pytest
import torch

from helpers.families import WITHOUT_CHANCE, compute_gradients, make_training, move

pytestmark = pytest.mark.gpu


def measure_error(name: str, device: str, dtype: torch.dtype | None = None, loss_scale: float = 1.0) -> float:
    """Return the relative error of all gradients together."""
    training = make_training(name, WITHOUT_CHANCE)
    exact = compute_gradients(move(training, "cpu", torch.float64), "cpu")
    found = compute_gradients(move(training, device), device, dtype, loss_scale)
    assert exact.any()
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", WITHOUT_CHANCE)
def test_gradients_in_single_precision(name: str, device: str) -> None:
    assert measure_error(name, device) < 1e-4


@pytest.mark.parametrize("name", WITHOUT_CHANCE)
def test_gradients_under_bfloat16_autocast(name: str, device: str) -> None:
    # batch norm over two images subtracts numbers that are nearly equal
    assert measure_error(name, device, torch.bfloat16) < (0.1 if "pixels" in name else 0.03)


@pytest.mark.parametrize("name", WITHOUT_CHANCE)
def test_gradients_under_float16_autocast(name: str, device: str) -> None:
    assert measure_error(name, device, torch.float16, loss_scale=1024.0) < 0.02
