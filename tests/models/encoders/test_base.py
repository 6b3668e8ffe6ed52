import pytest
import torch
from torch import nn

from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.encoders.torchvision import TorchvisionEncoder
from attendgen.utils.errors import UserError


def make_images(size: int, number: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def test_regions_are_normalized_pixels_row_by_row():
    images = torch.randint(0, 256, (2, 3, 3, 5), dtype=torch.uint8)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    features = GridEncoder(nn.Identity(), 3, 5, mean, std)(images)
    assert features.shape == (2, 15, 3)
    for row in range(3):
        for column in range(5):
            expected = (images[:, :, row, column].double() - torch.tensor(mean)) / torch.tensor(std)
            torch.testing.assert_close(features[:, 5 * row + column].double(), expected, check_dtype=False)


def test_a_frozen_encoder_stays_in_evaluation_mode_without_gradients():
    parent = nn.Sequential(SmallCNN((4,), size=8, freeze=True)).train()
    assert not any(module.training for module in parent[0].modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    statistics = parent[0].backbone[1].running_mean.clone()
    assert not parent(make_images(8, 2)).requires_grad
    torch.testing.assert_close(parent[0].backbone[1].running_mean, statistics, rtol=0, atol=0)


def test_an_encoder_that_is_not_frozen_has_the_training_mode_of_its_parent():
    parent = nn.Sequential(SmallCNN((4,), size=8)).train()
    assert all(module.training for module in parent[0].modules())
    assert parent(make_images(8, 2)).requires_grad
    assert not any(module.training for module in parent.eval()[0].modules())


@pytest.mark.parametrize(
    ("unfreeze_stages", "blocks"), [(1, {7}), (2, {6, 7}), (4, {4, 5, 6, 7}), (5, {0, 1, 4, 5, 6, 7})]
)
def test_the_last_stages_of_a_resnet_are_its_last_layers(unfreeze_stages, blocks):
    encoder = TorchvisionEncoder("resnet18", None, 64, unfreeze_stages=unfreeze_stages)
    trained = {int(name.split(".")[1]) for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trained == blocks
    frozen = {int(name.split(".")[1]) for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert not frozen & blocks
    assert not encoder.frozen


def test_a_stage_of_a_resnet50_starts_with_the_strided_convolution():
    encoder = TorchvisionEncoder("resnet50", None, 32, unfreeze_stages=1)
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    # torchvision's second convolution of a block is strided; the 1x1 convolution before it has the larger map
    assert all(name.startswith("backbone.7.") for name in trained)
    assert "backbone.7.0.conv2.weight" in trained
    assert "backbone.7.0.conv1.weight" not in trained


def test_fine_tuning_does_not_change_the_first_stages_and_the_statistics():
    encoder = TorchvisionEncoder("resnet18", None, 32, unfreeze_stages=2)
    parent = nn.Sequential(encoder).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in encoder.parameters() if p.requires_grad), lr=1.0)
    parent(make_images(32, 2)).square().mean().backward()
    optimizer.step()
    assert not any(module.training for module in encoder.modules())
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert changed
    assert not any("running" in name for name in changed)
    assert "backbone.0.weight" not in changed


def test_more_stages_than_the_network_has_are_refused():
    with pytest.raises(UserError, match=r"model\.encoder\.unfreeze_stages=6: resnet18 has 5 stages"):
        TorchvisionEncoder("resnet18", None, 64, unfreeze_stages=6)
