import pytest
import timm
import torch

from attendgen.models.encoders.timm import TimmEncoder
from attendgen.utils.errors import UserError


def make_images(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("tf_efficientnet_lite0", 64), ("swin_tiny_patch4_window7_224", 224)]
)
def test_features_are_the_last_map_of_a_timm_network(name, size):
    torch.manual_seed(0)
    encoder = TimmEncoder(name, size=size, unfreeze_stages=1)
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, features_only=True).eval()
    mean, std = torch.tensor(network.default_cfg["mean"]), torch.tensor(network.default_cfg["std"])
    images = make_images(size)
    with torch.inference_mode():
        expected = network((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))[-1]
        found = encoder(images)
    if expected.size(1) != encoder.dim:  # channels last
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(found.transpose(1, 2).unflatten(2, expected.shape[2:]), expected, atol=1e-4, rtol=1e-4)
    assert any(parameter.requires_grad for parameter in encoder.parameters())


def test_unknown_timm_networks_are_refused():
    with pytest.raises(UserError, match=r"encoder\.name=resnet19: timm cannot make it: Unknown model"):
        TimmEncoder("resnet19")
