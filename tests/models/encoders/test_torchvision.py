import pytest
import torch
import torchvision
from torch import nn

from attendgen.models.encoders.torchvision import TorchvisionEncoder
from attendgen.utils.errors import UserError


def make_images(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(("name", "regions"), [("resnet18", 49), ("vgg19", 196)])
def test_torchvision_grids_have_the_promised_shape(monkeypatch, name, regions):
    # leave as they are the hundred million weights of VGG's classifier, which is thrown away
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: None)
    monkeypatch.setattr(nn.init, "normal_", lambda weight, *moments: None)
    encoder = TorchvisionEncoder(name, weights=None).eval()
    assert encoder.size == 224
    with torch.inference_mode():
        features = encoder(make_images(224))
    assert features.shape == (1, regions, 512)
    assert encoder.dim == 512
    assert features.std() > 0


def test_the_mean_of_resnet_regions_is_torchvisions_pooled_feature():
    torch.manual_seed(1)
    encoder = TorchvisionEncoder("resnet18", weights=None)
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None).eval()
    network.fc = nn.Identity()
    images = make_images(64)
    normalizer = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images).mean(dim=1), network(normalizer(images / 255)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "dim", "grid"),
    [(f"resnet{n}", 512 if n < 50 else 2048, 7) for n in (18, 34, 50, 101, 152)]
    + [("vgg16", 512, 14), ("vgg19", 512, 14)],
)
def test_every_torchvision_network_of_the_readme_has_its_grid(name, dim, grid):
    with torch.device("meta"):  # shapes alone: no weights, no arithmetic
        encoder = TorchvisionEncoder(name, weights=None)
        assert encoder(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape == (2, grid**2, dim)
    assert encoder.dim == dim


@pytest.mark.parametrize("name", ["resnet19", "alexnet", "resnet"])
def test_unknown_networks_are_refused(name):
    with pytest.raises(UserError, match=f"encoder.name={name}"):
        TorchvisionEncoder(name)


def test_unknown_weights_are_refused():
    with pytest.raises(UserError, match=r"encoder\.weights=BOGUS: cannot be loaded for resnet18"):
        TorchvisionEncoder("resnet18", weights="BOGUS")
