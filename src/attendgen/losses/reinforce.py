"""Gradient estimators for hard attention; docs/hard_attention.md derives them.

The loss is the expected negative log-likelihood of a caption over the places looked at, E[sum_t l_t]. Its gradient is
E[sum_t grad l_t + sum_t (R_t - b_t) grad log alpha(s_t)], where the nats still to come R_t = sum_{t' >= t} l_t' are all
that the place s_t can change, and the baseline b_t is anything that does not depend on it.

Shapes: `captions` in a batch, `paths` of places drawn for each, `time` words; nats are zero at <pad>.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Selection = Callable[[Tensor], Tensor]  # alpha to the weights of a path


@runtime_checkable
class Estimator(Protocol):
    """What a captioning task asks of an estimator.

    Attributes:
        select: turns alpha into the weights of a path (see `attendgen.layers.selection`).
        paths: drawn for each caption.
        soft: whether the soft model's nats are wanted, too.
        entropy: weight of the bonus for attention that stays spread out.
    """

    paths: int
    soft: bool
    entropy: float

    @property
    def select(self) -> Selection: ...

    def __call__(
        self,
        nats: Float[Tensor, "captions paths time"],
        log_alpha: Float[Tensor, "captions paths time"],
        mask: Bool[Tensor, "captions time"],
        soft: Float[Tensor, "captions time"] | None,
    ) -> Float[Tensor, " captions"]:
        """A number for each caption whose gradient is the estimator's score-function part.

        Args:
            nats: of each word under each path.
            log_alpha: log-probability of each place looked at.
            mask: True where there is a word.
            soft: nats of each word under the expected context.
        """


def log_probability(
    alphas: Float[Tensor, "*rows time source"], weights: Float[Tensor, "*rows time source"]
) -> Float[Tensor, "*rows time"]:
    """log alpha of the places that a path's weights select (sum_l s~_l log alpha_l, with no gradient through s~)."""
    return (weights.detach().float() * _log(alphas)).sum(dim=-1)


def negative_entropy(alphas: Float[Tensor, "*rows time source"]) -> Float[Tensor, "*rows time"]:
    """sum_l alpha_l log alpha_l, in nats."""
    return (alphas.float() * _log(alphas)).sum(dim=-1)


def _log(alphas: Tensor) -> Tensor:
    # a weight of zero, as a masked one, has a log of about -87 and no gradient
    return alphas.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def reinforce(
    cost: Float[Tensor, "captions paths time"],
    baseline: Float[Tensor, "*#captions"] | Float[Tensor, ""],
    log_alpha: Float[Tensor, "captions paths time"],
) -> Float[Tensor, " captions"]:
    """mean over paths of sum_t (cost_t - baseline_t) log alpha(s_t), where only log alpha carries a gradient
    (Williams 1992; Xu et al. 2015, equation 11).
    """
    return ((cost - baseline).detach() * log_alpha).sum(dim=-1).mean(dim=-1)


def to_come(nats: Float[Tensor, "*rows time"]) -> Float[Tensor, "*rows time"]:
    """R_t = sum of the nats from step t on."""
    return nats.flip(-1).cumsum(dim=-1).flip(-1)


def leave_one_out(values: Float[Tensor, "batch samples *rest"]) -> Float[Tensor, "batch samples *rest"]:
    """The mean of the other samples; there must be at least two."""
    return (values.sum(dim=1, keepdim=True) - values) / (values.size(1) - 1)


class MovingBaseline(nn.Module):
    """The authors' recipe: a caption's mean nats a word against their moving average (equations 11 to 13).

    With semi-sampling it is biased: the expected context stands in for the drawn one half the time.

    Args:
        weight: lambda_r; 6.4 is the authors' 1/10 of a sum over their batch of 64.
        entropy: lambda_H; 0.128 is the authors' 0.002 of such a sum.
        decay: of the moving average.
    """

    baseline: Tensor
    paths = 1
    soft = False

    def __init__(self, select: Selection, weight: float = 6.4, entropy: float = 0.128, decay: float = 0.9) -> None:
        super().__init__()
        self.select = select
        self.weight = weight
        self.entropy = entropy
        self.decay = decay
        self.register_buffer("baseline", torch.zeros(()))

    def forward(
        self,
        nats: Float[Tensor, "captions paths time"],
        log_alpha: Float[Tensor, "captions paths time"],
        mask: Bool[Tensor, "captions time"],
        soft: Float[Tensor, "captions time"] | None = None,
    ) -> Float[Tensor, " captions"]:
        words = mask.sum(dim=-1)
        mean = nats.sum(dim=-1) / words.clamp(min=1).unsqueeze(-1)  # captions paths
        cost = mean.unsqueeze(-1) * mask.unsqueeze(1)
        surrogate = self.weight * reinforce(cost, self.baseline * mask.unsqueeze(1), log_alpha)
        if self.training:
            now = nats.detach().sum() / (words.sum() * nats.size(1)).clamp(min=1)
            self.baseline.lerp_(now.to(self.baseline.dtype), 1 - self.decay)
        return surrogate


@dataclass
class LeaveOneOut:
    """Several paths, each against the mean of the others (Kool et al. 2019, equation 8); unbiased.

    Args:
        paths: at least 2.
    """

    select: Selection
    paths: int = 4
    weight: float = 1.0
    entropy: float = 0.0
    soft: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.paths < 2:
            raise ValueError(f"paths {self.paths}: leaving one out needs at least 2")

    def __call__(
        self,
        nats: Float[Tensor, "captions paths time"],
        log_alpha: Float[Tensor, "captions paths time"],
        mask: Bool[Tensor, "captions time"],
        soft: Float[Tensor, "captions time"] | None = None,
    ) -> Float[Tensor, " captions"]:
        cost = to_come(nats)
        return self.weight * reinforce(cost, leave_one_out(cost), log_alpha)


@dataclass
class SoftBaseline:
    """Each path against the same model with its expected context (Shankar et al. 2018, 3); unbiased."""

    select: Selection
    paths: int = 1
    weight: float = 1.0
    entropy: float = 0.0
    soft: bool = field(default=True, init=False)

    def __call__(
        self,
        nats: Float[Tensor, "captions paths time"],
        log_alpha: Float[Tensor, "captions paths time"],
        mask: Bool[Tensor, "captions time"],
        soft: Float[Tensor, "captions time"] | None = None,
    ) -> Float[Tensor, " captions"]:
        assert soft is not None
        return self.weight * reinforce(to_come(nats), to_come(soft).unsqueeze(1), log_alpha)


@dataclass
class Pathwise:
    """No score-function part: the selection carries the gradient itself, as a straight-through one does; biased."""

    select: Selection
    paths: int = 1
    entropy: float = 0.0
    soft: bool = field(default=False, init=False)

    def __call__(
        self,
        nats: Float[Tensor, "captions paths time"],
        log_alpha: Float[Tensor, "captions paths time"],
        mask: Bool[Tensor, "captions time"],
        soft: Float[Tensor, "captions time"] | None = None,
    ) -> Float[Tensor, " captions"]:
        return nats.new_zeros(len(nats))
