"""Features of images that a GPU computes are those of a CPU."""

from pathlib import Path

import pytest
import torch

from attendgen.data.captions.encoding import encode_pixels, prepare_encoder
from attendgen.data.captions.features import cache_features
from attendgen.models.encoders.small_cnn import SmallCNN
from helpers.caption_sets import paint
from helpers.waiting import forbid_waiting

pytestmark = pytest.mark.gpu


@pytest.fixture
def encoder() -> SmallCNN:
    torch.manual_seed(1)
    return SmallCNN((8, 16, 24), size=64, freeze=True, depth=2)


def measure_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error of all features together."""
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def test_a_gpu_encodes_in_half_precision_without_waiting(encoder: SmallCNN, device: str) -> None:
    cpu, gpu = torch.device("cpu"), torch.device(device)
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        exact, _ = encode_pixels(prepare_encoder(encoder, cpu), pixels, cpu)
        prepared, pinned = prepare_encoder(encoder, gpu), pixels.pin_memory()
        encode_pixels(prepared, pinned, gpu)  # cuDNN chooses its kernels
        with forbid_waiting():
            features, mask = encode_pixels(prepared, pinned, gpu)
    assert features.dtype == torch.float16
    assert mask is None
    assert measure_error(features.cpu(), exact) < 1e-2


def test_a_cache_that_a_gpu_fills_is_that_of_a_cpu(
    encoder: SmallCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    images = paint(tmp_path / "images", [f"{i}.png" for i in range(6)])
    found = cache_features(encoder, images, tmp_path / "gpu", batch_size=4)
    monkeypatch.setattr("attendgen.data.captions.features.choose_device", lambda: torch.device("cpu"))
    exact = cache_features(encoder, images, tmp_path / "cpu", batch_size=4)
    assert len(found.rows) == len(exact.rows) == 6
    assert measure_error(found.take(range(6)), exact.take(range(6))) < 1e-2
