"""The interface of image encoders, and features of images that have different numbers of regions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional


class Features(NamedTuple):
    """Feature vectors of regions, padded to one number per image; the mask is True where a region is real."""

    values: Float[Tensor, "*batch regions dim"]
    mask: Bool[Tensor, "*batch regions"]


@runtime_checkable
class ImageEncoder(Protocol):
    """A module that turns square images of `size` pixels into feature vectors, such as `models.encoders` makes.

    It may also have a method `locate`, see `attendgen.visualization.regions`, and a class attribute `without_weights`:
    the settings with which it is built without reading or fetching its weights, `{"weights": None}` for example.

    Attributes:
        name: what feature caches are named by.
        size: height and width of the images in pixels.
        dim: length of a feature vector.
        frozen: whether its weights are constant, so that features can be cached.
    """

    name: str
    size: int
    dim: int
    frozen: bool

    def __call__(
        self, images: UInt8[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, "batch regions dim"] | tuple[Float[Tensor, "batch regions dim"], Bool[Tensor, "batch regions"]]:
        """Return one feature vector per region; with a mask if images have different numbers of regions."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, as `nn.Module` does."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move or convert the weights, as `nn.Module` does."""

    def eval(self) -> Any:
        """Set evaluation mode, as `nn.Module` does."""

    def modules(self) -> Iterator[nn.Module]:
        """Yield the modules, as `nn.Module` does."""


def split_mask(
    features: Tensor | tuple[Tensor, Tensor],
) -> tuple[Float[Tensor, "batch regions dim"], Bool[Tensor, "batch regions"] | None]:
    """Return features and their mask; None if all regions are real."""
    return (features, None) if isinstance(features, Tensor) else (features[0], features[1])


def join_features(parts: Sequence[Tensor | Features]) -> Float[Tensor, "batch regions dim"] | Features:
    """Return the features of several batches as those of one; batches of fewer regions are padded and masked."""
    values = [part if isinstance(part, Tensor) else part.values for part in parts]
    most = max(part.size(1) for part in values)
    if all(isinstance(part, Tensor) for part in parts) and all(part.size(1) == most for part in values):
        return torch.cat(values)
    masks = [
        part.new_ones(part.shape[:2], dtype=torch.bool) if isinstance(part, Tensor) else part.mask for part in parts
    ]
    padded = [functional.pad(part, (0, 0, 0, most - part.size(1))) for part in values]
    return Features(torch.cat(padded), torch.cat([functional.pad(mask, (0, most - mask.size(1))) for mask in masks]))


def average_regions(
    values: Float[Tensor, "batch regions dim"], mask: Bool[Tensor, "batch regions"] | None
) -> Float[Tensor, "batch dim"]:
    """Return the mean feature of each image."""
    if mask is None:
        return values.mean(dim=1)
    real = mask.unsqueeze(-1)
    return torch.where(real, values, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1)
