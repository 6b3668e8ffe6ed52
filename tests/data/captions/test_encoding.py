"""Encoding images in batches; on the pretended GPU in half precision, from pinned memory and without waiting."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from attendgen.data import workers as data_workers
from attendgen.data.captions import encoding
from attendgen.data.captions.encoding import encode_pixels, fold_batch_norms, make_image_loader, prepare_encoder
from attendgen.data.captions.features import cache_features
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.encoders.torchvision import TorchvisionEncoder
from helpers.pretended_gpu import GPU, Pretended, pretend, pretended_gpu

CPU = torch.device("cpu")


@pytest.mark.parametrize("layers", ["small_cnn", "resnet18"])
def test_folded_batch_norms_change_no_features(layers):
    made = SmallCNN((4, 6), size=64, depth=2) if layers == "small_cnn" else TorchvisionEncoder(layers, None, 64)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.uniform_(0.5, 2.0)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    copied = fold_batch_norms(made)
    with torch.inference_mode():
        torch.testing.assert_close(copied(pixels), made.eval()(pixels), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules()) or layers == "resnet18"
    for name, value in made.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("given", [0, 5])
@pytest.mark.parametrize(("device", "size", "workers"), [(CPU, 32, 0), (GPU, 256, 2)])
def test_a_gpu_is_given_large_batches_from_pinned_memory_by_several_processes(
    monkeypatch, device, size, workers, given
):
    monkeypatch.setattr(data_workers, "count_cores", lambda: 2)
    images = Subset(torch.zeros(4, 1), range(4))
    loader = make_image_loader(images, device, given)
    assert (loader.batch_size, loader.num_workers, loader.pin_memory) == (given or size, workers, device == GPU)
    assert make_image_loader(images, device, workers=1).num_workers == 1


def pretend_encoder(encoder: Any, device: torch.device) -> Any:
    """Prepare an encoder for the pretended GPU, to which `nn.Module.to` cannot move it."""
    assert device == GPU
    return pretend(prepare_encoder(encoder, CPU))


@pytest.fixture
def encoder() -> SmallCNN:
    return SmallCNN((4, 6), size=16, freeze=True)


def test_a_gpu_encodes_in_half_precision_without_waiting(encoder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else autocast stays off
    pixels = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    dtypes, strides = [], []

    def watch(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        dtypes.append(output.dtype)
        strides.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    with pretended_gpu() as record:
        moved = pretend_encoder(encoder, GPU)
        for module in moved.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(watch)
        features, mask = encode_pixels(moved, pixels, GPU)
    assert isinstance(features, Pretended)
    assert mask is None
    assert set(dtypes) == {torch.float16}
    assert all(strides)
    assert not record.waits
    expected, _ = encode_pixels(prepare_encoder(encoder, CPU), pixels, CPU)
    torch.testing.assert_close(features.held.float(), expected, rtol=1e-2, atol=1e-2)


def test_a_cache_that_a_gpu_fills_is_that_of_a_cpu(encoder, images, tmp_path, monkeypatch):
    expected = cache_features(encoder, images, tmp_path / "cpu").take(range(len(images)))
    loaders = []

    class Loader(DataLoader):
        """Notes its settings; memory cannot be pinned without a driver."""

        def __init__(self, *arguments: Any, pin_memory: bool, num_workers: int, **options: Any) -> None:
            super().__init__(*arguments, **options)
            loaders.append((self.batch_size, pin_memory, num_workers))

    monkeypatch.setattr(encoding, "DataLoader", Loader)
    monkeypatch.setattr(data_workers, "count_cores", lambda: 100)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("attendgen.data.captions.features.choose_device", lambda: GPU)
    monkeypatch.setattr("attendgen.data.captions.features.prepare_encoder", pretend_encoder)
    with pretended_gpu() as record:
        cache = cache_features(encoder, images, tmp_path / "gpu")
    assert loaders == [(256, True, data_workers.MOST_WORKERS)]
    assert record.waits.total() == 1, "the host reads a batch of features once"
    torch.testing.assert_close(cache.take(range(len(images))), expected, rtol=2e-3, atol=2e-3)
