"""Tensors of half precision, which some operations need in single precision."""

from jaxtyping import Float
from torch import Tensor, bfloat16, float16, nn


def is_half(values: Tensor) -> bool:
    """Return whether numbers are in half precision."""
    return values.dtype in (bfloat16, float16)


def widen(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return numbers in single precision at least."""
    return values.float() if is_half(values) else values


def get_weight(layer: nn.Module) -> Tensor:
    """Return a weight of a layer, which has the precision and the device of the others."""
    return next(layer.parameters())
