"""Self-critical sequence training: raise the probability of captions that score above a baseline."""

from jaxtyping import Float
from torch import Tensor


def self_critical(
    log_probs: Float[Tensor, "batch samples"],
    rewards: Float[Tensor, "batch samples"],
    baseline: Float[Tensor, "batch #samples"],
) -> Float[Tensor, " batch"]:
    """Return -mean (reward - baseline) log p(caption) over an image's samples (Rennie et al. 2017, equation 7).

    Only log p carries a gradient.
    """
    return -((rewards - baseline).detach() * log_probs).mean(dim=1)


class ReplaySampler:
    """Choose the same attention weights again, step by step: those with which sampled captions were generated.

    Args:
        weights: of each token: batch, samples, time, source.
    """

    def __init__(self, weights: Float[Tensor, "batch samples time source"]) -> None:
        self.steps = iter(weights.unbind(2))

    def __call__(self, alpha: Float[Tensor, "batch samples source"]) -> Float[Tensor, "batch samples source"]:
        """Return the weights of the next step."""
        return next(self.steps).to(alpha.dtype).view_as(alpha)
