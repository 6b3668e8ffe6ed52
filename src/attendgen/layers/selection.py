"""Where a hard attention looks, given the attention weights alpha (Xu et al. 2015, 4.1).

A selection turns alpha into the weights s~ with which annotation vectors are summed. Samples come from torch's global
stream of random numbers, which differs from process to process.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Selection = Callable[[Float[Tensor, "*rows source"]], Float[Tensor, "*rows source"]]


def expected(alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
    """Alpha itself: soft attention."""
    return alpha


def argmax(alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
    """The place with the greatest weight."""
    return _one_hot(alpha.argmax(dim=-1), alpha)


def sampled(alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
    """A place drawn from Categorical(alpha) (equation 8); one of weight zero, as a masked one, never comes."""
    drawn = torch.multinomial(alpha.detach().float().flatten(0, -2), 1).view(alpha.shape[:-1])
    return _one_hot(drawn, alpha)


LOOKS: dict[str, Selection] = {"expected": expected, "argmax": argmax, "sampled": sampled}


class SemiSampled:
    """A drawn place with probability `share` at each row and step, else alpha (4.1 takes the expected context so)."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        drawn = torch.rand(alpha.shape[:-1], device=alpha.device) < self.share
        return torch.where(drawn.unsqueeze(-1), sampled(alpha), alpha)


class StraightThroughGumbel:
    """A drawn place whose gradient is that of softmax((log alpha + g) / temperature) (Jang et al. 2017, 2.2)."""

    def __init__(self, temperature: float = 1.0) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} is not above 0")
        self.temperature = temperature

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        uniform = torch.rand_like(alpha, dtype=torch.float32).clamp_min(1e-20)
        noise = -(-uniform.log()).clamp_min(1e-20).log()
        scores = alpha.float().clamp_min(torch.finfo(torch.float32).tiny).log() + noise
        relaxed = (scores / self.temperature).softmax(dim=-1)
        hard = _one_hot(scores.argmax(dim=-1), relaxed)
        return (hard + relaxed - relaxed.detach()).to(alpha.dtype)


def _one_hot(place: Tensor, alpha: Tensor) -> Tensor:
    return functional.one_hot(place, alpha.size(-1)).to(alpha.dtype)
