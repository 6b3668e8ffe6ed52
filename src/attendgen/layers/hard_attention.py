"""Hard attention: turn attention weights alpha into the weights s~ of a sampled location (Xu et al. 2015, 4.1).

The context is then the sum of the memory vectors with the weights s~. Samples come from torch's global stream of random
numbers, which differs from process to process.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attendgen.layers.state import map_tensors


class SampledWeights(NamedTuple):
    """The weights of sampled locations, and what an estimator may need of a relaxed sampler.

    Attributes:
        relaxed: the continuous sample of which the weights are the argmax.
        noise: from which it was made.
    """

    weights: Float[Tensor, "*rows source"]
    relaxed: Float[Tensor, "*rows source"] | None = None
    noise: Float[Tensor, "*rows source"] | None = None


class AttentionSamples(NamedTuple):
    """What the texts of each input give along several sequences of sampled locations.

    Shapes: `captions` texts per input.

    Attributes:
        weights: of the sampled locations.
        hidden: of the decoder after each step.
        features: the mean memory vector of the text's input.
        relaxed, noise: of a sampler that has them, see `SampledWeights`.
    """

    logits: Float[Tensor, "batch captions samples time vocab"]
    alphas: Float[Tensor, "batch captions samples time source"]
    weights: Float[Tensor, "batch captions samples time source"]
    hidden: Float[Tensor, "batch captions samples time hidden"]
    features: Float[Tensor, "batch captions dim"]
    relaxed: Float[Tensor, "batch captions samples time source"] | None = None
    noise: Float[Tensor, "batch captions samples time source"] | None = None


# turns alpha into the weights with which the memory is summed
AttentionSampler = Callable[[Float[Tensor, "*rows source"]], Float[Tensor, "*rows source"] | SampledWeights]


def draw_weights(sampler: AttentionSampler, alpha: Float[Tensor, "*rows source"]) -> SampledWeights:
    """Return what a sampler draws, also of a sampler that returns the weights alone."""
    drawn = sampler(alpha)
    return drawn if isinstance(drawn, SampledWeights) else SampledWeights(drawn)


def sum_sampled(
    sampler: AttentionSampler, alpha: Float[Tensor, "rows source"], values: Float[Tensor, "batch source memory"]
) -> tuple[Float[Tensor, "rows memory"], SampledWeights]:
    """Return the contexts with sampled weights, and what was drawn; several rows may share one row of the values."""
    drawn = draw_weights(sampler, alpha.unflatten(0, (len(values), -1)))  # batch query source
    contexts = (drawn.weights @ values.to(drawn.weights.dtype)).flatten(0, 1)
    return contexts, map_tensors(lambda part: part.flatten(0, 1), drawn)


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


class AllButLastSampler:
    """Let a sampler draw for all samples of a text but the last, whose attention is soft.

    Args:
        samples: of each text, which stand side by side.
    """

    def __init__(self, sampler: AttentionSampler, samples: int) -> None:
        self.sampler = sampler
        self.samples = samples

    def __call__(self, alpha: Float[Tensor, "batch query source"]) -> SampledWeights:
        """Return the weights of all samples."""
        grouped = alpha.unflatten(1, (-1, self.samples))  # batch captions samples source
        drawn, rest = draw_weights(self.sampler, grouped[:, :, :-1]), grouped[:, :, -1:]
        return map_tensors(lambda part: torch.cat([part, rest.to(part.dtype)], dim=2).flatten(1, 2), drawn)


def drop_alike(dropout: nn.Dropout, values: Float[Tensor, "rows *dims"], samples: int) -> Float[Tensor, "rows *dims"]:
    """Apply dropout with the same mask to all samples of a text, because they are compared with each other.

    Args:
        samples: of each text, which stand side by side.
    """
    if samples == 1 or not dropout.training:
        return dropout(values)
    grouped = values.unflatten(0, (-1, samples))
    return (grouped * dropout(torch.ones_like(grouped[:, :1]))).flatten(0, 1)


# how a model attends when it decodes; soft attention samples nothing
INFERENCE_ATTENTION: dict[str, AttentionSampler | None] = {
    "soft": None,
    "argmax": ArgmaxSampler(),
    "sample": CategoricalSampler(),
}


def _one_hot(location: Tensor, alpha: Tensor) -> Tensor:
    return torch.zeros_like(alpha).scatter_(-1, location.unsqueeze(-1), 1.0)
