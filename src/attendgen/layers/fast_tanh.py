"""The hyperbolic tangent of decoding."""

import torch
from jaxtyping import Float
from torch import Tensor

from attendgen.layers.half_precision import widen


def fast_tanh(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return tanh(x) = 2 sigmoid(2 x) - 1; PyTorch's own with a gradient, or on another device than a CPU.

    PyTorch's tanh takes six times as long as its sigmoid on a CPU. The error is about 1e-7 in single
    precision, also where tanh(x) is small.
    """
    if values.requires_grad or values.device.type != "cpu":
        return torch.tanh(values)
    return torch.sigmoid(2 * widen(values)).mul_(2).sub_(1).to(values.dtype)
