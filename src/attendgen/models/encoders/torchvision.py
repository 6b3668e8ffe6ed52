"""ResNet and VGG encoders from torchvision."""

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from attendgen.models.encoders.base import GridEncoder
from attendgen.utils.errors import UserError
from attendgen.utils.packages import require_packages


class TorchvisionEncoder(GridEncoder):
    """The last convolution map of a torchvision ResNet, or a VGG's last map before pooling.

    VGG-19 at 224 pixels gives the 14x14x512 grid of Xu et al. (2015).

    Args:
        name: resnet18 to resnet152, vgg11 to vgg19.
        weights: a name that torchvision knows, which fetches the weights; None draws random ones.
        grid_size: average the map to this number of rows and columns (adaptive pooling); None keeps its own.
        size, freeze, unfreeze_stages: see `GridEncoder`.

    Raises:
        UserError: the model or its weights are unknown, or the weights cannot be fetched.
    """

    without_weights: ClassVar[Mapping[str, Any]] = {"weights": None}

    def __init__(
        self,
        name: str,
        weights: str | None = "DEFAULT",
        size: int = 224,
        freeze: bool = True,
        unfreeze_stages: int = 0,
        grid_size: int | None = None,
    ) -> None:
        require_packages({"torchvision": "encoders"})
        import torchvision

        family = "resnet" if name.startswith("resnet") else "vgg" if name.startswith("vgg") else None
        if family is None or name not in torchvision.models.list_models():
            raise UserError(f"model.encoder.name={name}: not a torchvision ResNet or VGG; try resnet101 or vgg19")
        try:
            network = torchvision.models.get_model(name, weights=weights, progress=sys.stderr.isatty())
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"model.encoder.weights={weights}: cannot be loaded for {name}: {error}; give null, or DEFAULT"
            ) from error
        backbone = nn.Sequential(*list(network.children())[:-2]) if family == "resnet" else network.features[:-1]
        if grid_size is not None:
            backbone.append(nn.AdaptiveAvgPool2d(grid_size))
        dim = network.fc.in_features if family == "resnet" else 512
        super().__init__(backbone, dim, size, freeze=freeze, name=name, unfreeze_stages=unfreeze_stages)
