"""Bits per character or word, exact over uneven batches and several devices."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class BitsPerToken(Metric):
    """-1/N sum log2 p(token) over all N tokens seen; NaN before the first.

    The sum is a pair of single-precision numbers, the rounded sum and what rounding has cut off (Dekker 1971): a single
    one is not exact after millions of tokens, and not every device has double precision.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    nll: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros(2, dtype=torch.float32), dist_reduce_fx=add_pairs)
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, nll: Float[Tensor, ""], count: int | Int[Tensor, ""]) -> None:
        """Add a batch's summed negative log-likelihood in nats and its number of tokens."""
        rounded = nll.detach().float()
        self.nll = add_pairs(torch.stack([self.nll, torch.stack([rounded, (nll.detach() - rounded).float()])]))
        self.count += count

    def compute(self) -> Float[Tensor, ""]:
        """Return bits per token, on the CPU."""
        rounded, rest = self.nll.cpu().double()
        nll = rounded + rest if rounded.isfinite() else rounded
        return nll / self.count.cpu() / math.log(2)


def add_pairs(pairs: Float[Tensor, "numbers 2"]) -> Float[Tensor, "2"]:
    """Return the sum of numbers that are pairs of a rounded value and a rest."""
    rounded, rest = pairs[0]
    for more, more_rest in pairs[1:]:
        total = rounded + more
        own = total - rounded
        cut_off = (rounded - (total - own)) + (more - own)  # by the addition (Knuth)
        rest = torch.where(total.isfinite(), rest + more_rest + cut_off, 0.0)
        rounded = total + rest
        rest = rest - (rounded - total)
    return torch.stack([rounded, rest])


def perplexity(bits: float) -> float:
    """Return 2^bits."""
    return math.inf if bits >= 1024 else 2.0**bits  # a diverged model must not overflow
