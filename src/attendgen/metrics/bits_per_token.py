"""Bits per character or word, exact over uneven batches and several devices."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class BitsPerToken(Metric):
    """-1/N sum log2 p(token) over all N tokens seen; NaN before the first."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64: in float32 a sum over millions of tokens stops growing exactly
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, nll: Float[Tensor, ""], count: int | Int[Tensor, ""]) -> None:
        """Add a batch's summed negative log-likelihood in nats and its number of tokens."""
        self.nll += nll.double()
        self.count += count

    def compute(self) -> Float[Tensor, ""]:
        """Return bits per token."""
        return self.nll / self.count / math.log(2)


def perplexity(bits: float) -> float:
    """Return 2^bits."""
    return math.inf if bits >= 1024 else 2.0**bits  # a diverged model must not overflow
