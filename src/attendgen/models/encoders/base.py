"""The interface of convolutional encoders: an image in, a grid of annotation vectors out (Xu et al. 2015, 3.1.1)."""

import copy
import math
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attendgen.layers.encoder import Features
from attendgen.utils.errors import UserError
from attendgen.visualization.regions import Grid

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class GridEncoder(nn.Module):
    """A backbone that turns pixels into a grid of feature vectors of length `dim`.

    Pixels come in as bytes and are normalized here, so that loaders and caches need not know the backbone's
    convention. A frozen encoder stays in evaluation mode and keeps no gradients.

    Args:
        backbone: maps [batch, 3, height, width] to a feature map [batch, dim, rows, columns].
        dim: channels of the feature map.
        size: height and width of the images in pixels.
        mean, std: of the pixels, per channel, on the scale 0 to 255.
        freeze: false trains the whole backbone, its batch-norm statistics included.
        name: what feature caches are named by.
        unfreeze_stages: fine-tune the last stages (see `find_stages`) of a backbone that is otherwise frozen;
            batch-norm statistics stay as they are.

    Raises:
        UserError: `unfreeze_stages` is more than the backbone has.
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
        freeze: bool = True,
        name: str = "encoder",
        unfreeze_stages: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim = dim
        self.size = size
        self.frozen = freeze and not unfreeze_stages
        self.frozen_statistics = freeze or unfreeze_stages > 0  # of batch norms; dropout is off, too
        self.name = name
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.requires_grad_(not self.frozen_statistics)
        self.train()
        if unfreeze_stages:
            stages = find_stages(self, size)
            if not 0 < unfreeze_stages <= len(stages):
                raise UserError(
                    f"model.encoder.unfreeze_stages={unfreeze_stages}: {name} has {len(stages)} stages; "
                    "give a number from 0 to that"
                )
            for module in (module for stage in stages[-unfreeze_stages:] for module in stage):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> "GridEncoder":
        """Set the training mode, which a frozen encoder ignores."""
        return super().train(mode and not self.frozen_statistics)

    def forward(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch regions dim"]:
        """Return one feature vector per region, row by row."""
        pixels = (images - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            grid = self.backbone(pixels)  # batch dim rows columns
        return grid.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def locate(self, images: UInt8[Tensor, "batch 3 height width"]) -> list[Grid]:
        """Return where the regions lie in each image: a grid over all of it."""
        backbone = copy.deepcopy(self.backbone).eval() if self.backbone.training else self.backbone
        rows, columns = backbone((images[:1] - self.mean) / self.std).shape[2:]
        return [Grid(rows, columns)] * len(images)


class ImageModel(nn.Module):
    """A model that reads images through its `encoder`, see `layers.encoder.ImageEncoder`."""

    encoder: Any

    def encode_images(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features
    ) -> Float[Tensor, "batch regions dim"] | Features:
        """Return the features of images; cached features are returned as they are."""
        if not isinstance(images, Tensor) or images.ndim == 3:
            return images
        features = self.encoder(images)
        return features if isinstance(features, Tensor) else Features(*features)


@torch.no_grad()
def find_stages(encoder: nn.Module, size: int) -> list[list[nn.Module]]:
    """Return the modules with parameters in forward order, grouped into stages; a strided convolution starts a stage.

    Args:
        size: height and width of the image that is passed through the encoder.
    """
    stages: list[list[nn.Module]] = []
    width = math.inf

    def visit(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal width
        if isinstance(module, nn.Conv2d) and output.shape[-1] < width:
            width = output.shape[-1]
            stages.append([])
        if stages:
            stages[-1].append(module)

    with_parameters = [module for module in encoder.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [module.register_forward_hook(visit) for module in with_parameters]
    try:
        encoder(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    return stages
