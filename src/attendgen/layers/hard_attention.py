"""Hard attention: turn attention weights alpha into the weights s~ of a sampled location (Xu et al. 2015, 4.1).

The context is then the sum of the memory vectors with the weights s~. Samples come from torch's global stream of random
numbers, which differs from process to process.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class SampledWeights(NamedTuple):
    """The weights of sampled locations, and what an estimator may need of a relaxed sampler.

    Attributes:
        relaxed: the continuous sample of which the weights are the argmax.
        noise: from which it was made.
    """

    weights: Float[Tensor, "*rows source"]
    relaxed: Float[Tensor, "*rows source"] | None = None
    noise: Float[Tensor, "*rows source"] | None = None


# turns alpha into the weights with which the memory is summed
AttentionSampler = Callable[[Float[Tensor, "*rows source"]], Float[Tensor, "*rows source"] | SampledWeights]


def draw_weights(sampler: AttentionSampler, alpha: Float[Tensor, "*rows source"]) -> SampledWeights:
    """Return what a sampler draws, also of a sampler that returns the weights alone."""
    drawn = sampler(alpha)
    return drawn if isinstance(drawn, SampledWeights) else SampledWeights(drawn)


class ArgmaxSampler:
    """Choose the location with the greatest weight."""

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights."""
        return _one_hot(alpha.argmax(dim=-1), alpha)


class CategoricalSampler:
    """Draw a location from Categorical(alpha) (equation 8); a location of weight 0, as a masked one, is never drawn."""

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights."""
        # the first of events with these rates; `torch.multinomial` does the same, but checks alpha on the device, where
        # a NaN would end the process instead of the training
        weights = alpha.detach().float()
        waiting = torch.empty_like(weights).exponential_().clamp_min_(torch.finfo(torch.float32).tiny)  # 0 / 0 is NaN
        return _one_hot((weights / waiting).argmax(dim=-1), alpha)


class SemiSampler:
    """Draw a location with probability `sample_prob`, and keep alpha otherwise (section 4.1).

    Each row and step is decided by itself; the paper decides once per image.
    """

    def __init__(self, sample_prob: float = 0.5) -> None:
        self.sample_prob = sample_prob
        self.sampler = CategoricalSampler()

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights, or alpha."""
        drawn = torch.rand(alpha.shape[:-1], device=alpha.device) < self.sample_prob
        return torch.where(drawn.unsqueeze(-1), self.sampler(alpha), alpha)


class StraightThroughGumbelSampler:
    """Draw a location whose gradient is that of softmax((log alpha + g) / temperature) (Jang et al. 2017, 2.2).

    Raises:
        ValueError: the temperature is not above 0.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature}: expected more than 0")
        self.temperature = temperature

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> SampledWeights:
        """Return one-hot weights with a gradient, the relaxed sample and its Gumbel noise."""
        uniform = torch.rand_like(alpha, dtype=torch.float32).clamp_min(1e-20)
        noise = -(-uniform.log()).clamp_min(1e-20).log()
        scores = alpha.float().clamp_min(torch.finfo(torch.float32).tiny).log() + noise
        relaxed = (scores / self.temperature).softmax(dim=-1)
        hard = _one_hot(scores.argmax(dim=-1), relaxed)
        return SampledWeights((hard + relaxed - relaxed.detach()).to(alpha.dtype), relaxed, noise)


# how a model attends when it decodes; soft attention samples nothing
INFERENCE_ATTENTION: dict[str, AttentionSampler | None] = {
    "soft": None,
    "argmax": ArgmaxSampler(),
    "sample": CategoricalSampler(),
}


def _one_hot(location: Tensor, alpha: Tensor) -> Tensor:
    return torch.zeros_like(alpha).scatter_(-1, location.unsqueeze(-1), 1.0)
