"""Encoders from timm."""

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attendgen.models.encoders.base import GridEncoder
from attendgen.utils.errors import UserError
from attendgen.utils.packages import require_packages


class LastMap(nn.Module):
    """The last of a timm network's feature maps, channels first."""

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        self.network = network
        self.dim = dim

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """Return the last feature map."""
        grid = self.network(pixels)[-1]
        return grid if grid.size(1) == self.dim else grid.permute(0, 3, 1, 2)


class TimmEncoder(GridEncoder):
    """The last feature map of any timm model that has feature maps.

    Args:
        name: of the model in timm.
        pretrained: fetch timm's weights.
        size, freeze, unfreeze_stages: see `GridEncoder`.

    Raises:
        UserError: timm is not installed, has no such model, or cannot fetch the weights.
    """

    without_weights: ClassVar[Mapping[str, Any]] = {"pretrained": False}

    def __init__(
        self, name: str, pretrained: bool = False, size: int = 224, freeze: bool = True, unfreeze_stages: int = 0
    ) -> None:
        require_packages({"timm": "encoders"})
        timm = importlib.import_module("timm")
        if ":" in name:  # timm would open a folder's or a hub's pickled weights
            raise UserError(f"model.encoder.name={name}: expected the name of one of timm's own models, as resnet18")
        try:
            network = timm.create_model(name, pretrained=pretrained, features_only=True)
        except (OSError, RuntimeError, AttributeError) as error:  # unknown, without weights or without feature maps
            raise UserError(
                f"model.encoder.name={name}: timm cannot make it: {' '.join(str(error).split())}; "
                "choose a name of timm.list_models()"
            ) from error
        dim = network.feature_info.channels()[-1]
        convention = timm.data.resolve_data_config({}, model=network)
        mean, std = (tuple(255 * value for value in convention[key]) for key in ("mean", "std"))
        super().__init__(LastMap(network, dim), dim, size, mean, std, freeze, f"timm_{name}", unfreeze_stages)
