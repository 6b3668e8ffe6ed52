"""Bits per character or word, exact over uneven batches and several devices."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class BitsPerSymbol(Metric):
    """-1/N sum log2 p(symbol) over all N symbols seen; NaN before the first."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nats: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64: in float32 a sum over millions of symbols stops growing exactly
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, nats: Float[Tensor, ""], count: int | Int[Tensor, ""]) -> None:
        """Add a batch's summed cross-entropy and its number of symbols."""
        self.nats += nats.double()
        self.count += count

    def compute(self) -> Float[Tensor, ""]:
        return self.nats / self.count / math.log(2)


def perplexity(bits: float) -> float:
    """2^bits: among how many equally likely symbols the model seems to choose."""
    return math.inf if bits >= 1024 else 2.0**bits  # a diverged model must not overflow
