"""Hard attention: turn attention weights alpha into the weights s~ of a sampled location (Xu et al. 2015, 4.1).

The context is then the sum of the memory vectors with the weights s~. Samples come from torch's global stream of random
numbers, which differs from process to process.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

AttentionSampler = Callable[[Float[Tensor, "*rows source"]], Float[Tensor, "*rows source"]]


class ArgmaxSampler:
    """Choose the location with the greatest weight."""

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights."""
        return _one_hot(alpha.argmax(dim=-1), alpha)


class CategoricalSampler:
    """Draw a location from Categorical(alpha) (equation 8); a location of weight 0, as a masked one, is never drawn."""

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights."""
        drawn = torch.multinomial(alpha.detach().float().flatten(0, -2), 1).view(alpha.shape[:-1])
        return _one_hot(drawn, alpha)


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

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        """Return one-hot weights with a gradient."""
        uniform = torch.rand_like(alpha, dtype=torch.float32).clamp_min(1e-20)
        noise = -(-uniform.log()).clamp_min(1e-20).log()
        scores = alpha.float().clamp_min(torch.finfo(torch.float32).tiny).log() + noise
        relaxed = (scores / self.temperature).softmax(dim=-1)
        hard = _one_hot(scores.argmax(dim=-1), relaxed)
        return (hard + relaxed - relaxed.detach()).to(alpha.dtype)


# how a model attends when it decodes; soft attention samples nothing
INFERENCE_ATTENTION: dict[str, AttentionSampler | None] = {
    "soft": None,
    "argmax": ArgmaxSampler(),
    "sample": CategoricalSampler(),
}


def _one_hot(location: Tensor, alpha: Tensor) -> Tensor:
    return functional.one_hot(location, alpha.size(-1)).to(alpha.dtype)
