"""Gradient estimators for hard attention; docs/families/hard_attention.md derives them.

The loss is the expected negative log-likelihood of a caption over sampled locations, E[sum_t l_t]. Its gradient is
E[sum_t grad l_t + sum_t (R_t - b_t) grad log alpha(s_t)]. The cost to go R_t = sum_{t' >= t} l_t' is all that the
location s_t can change, and the baseline b_t is anything that does not depend on it.

Shapes: `captions` in a batch, `samples` of locations drawn for each, `time` words; `nll` (negative log-likelihood, in
nats) is zero at <pad>.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.hard_attention import AttentionSampler
from attendgen.utils.processes import add_up


class Samples(NamedTuple):
    """What an estimator is given: captions along sampled locations.

    Attributes:
        nll: of each word under each sample.
        log_alpha: log-probability of each sampled location, zero at <pad>.
        mask: True where there is a word.
        alphas: attention weights.
        weights: of the sampled locations.
        hidden: of the decoder after each step.
        features: the mean memory vector of the caption's image.
        soft: nll of each word under soft attention, if the estimator asks for it.
        relaxed, noise: of a sampler that has them, see `attendgen.layers.hard_attention.SampledWeights`.
    """

    nll: Float[Tensor, "captions samples time"]
    log_alpha: Float[Tensor, "captions samples time"]
    mask: Bool[Tensor, "captions time"]
    alphas: Float[Tensor, "captions samples time source"]
    weights: Float[Tensor, "captions samples time source"]
    hidden: Float[Tensor, "captions samples time hidden"]
    features: Float[Tensor, "captions dim"]
    soft: Float[Tensor, "captions time"] | None = None
    relaxed: Float[Tensor, "captions samples time source"] | None = None
    noise: Float[Tensor, "captions samples time source"] | None = None


@runtime_checkable
class Estimator(Protocol):
    """The interface between a captioning task and a gradient estimator.

    Its modules and parameters are trained with the model. If it has a method `end_step`, the task calls it before each
    optimizer step, after the batches of that step.

    Attributes:
        sampler: turns alpha into the weights of a sampled location.
        num_samples: sequences of locations drawn for each caption.
        soft: whether the negative log-likelihood under soft attention is needed, too.
    """

    num_samples: int
    soft: bool

    @property
    def sampler(self) -> AttentionSampler:
        """The sampler of locations."""

    def __call__(self, samples: Samples) -> Float[Tensor, " captions"]:
        """Return the whole loss of each caption: its value is minimized, and its gradient is the estimator's.

        `expected_nll` is the part of most estimators that does not depend on how locations are sampled.
        """


def expected_nll(samples: Samples, entropy: float = 0.0) -> Float[Tensor, " captions"]:
    """Return the mean negative log-likelihood of each caption over its samples, less an entropy bonus.

    Args:
        entropy: weight of the bonus.
    """
    nll = samples.nll.sum(dim=-1).mean(dim=-1)
    return nll - entropy * attention_entropy(samples) if entropy else nll


def attention_entropy(samples: Samples) -> Float[Tensor, " captions"]:
    """Return the entropy of the attention in nats, summed over a caption's words; the mean over its samples."""
    return -(negative_entropy(samples.alphas) * samples.mask.unsqueeze(1)).sum(dim=-1).mean(dim=-1)


def log_probability(
    alphas: Float[Tensor, "*rows time source"], weights: Float[Tensor, "*rows time source"]
) -> Float[Tensor, "*rows time"]:
    """Return log alpha of the locations that one-hot weights s~ choose; no gradient passes through s~."""
    return (weights.detach().float() * _log(alphas)).sum(dim=-1)


def negative_entropy(alphas: Float[Tensor, "*rows time source"]) -> Float[Tensor, "*rows time"]:
    """Return sum_l alpha_l log alpha_l, in nats."""
    return (alphas.float() * _log(alphas)).sum(dim=-1)


def _log(alphas: Tensor) -> Tensor:
    # a weight of zero, as a masked one, has a log of about -87 and no gradient
    return alphas.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def reinforce(
    cost: Float[Tensor, "captions samples time"],
    baseline: Float[Tensor, "*#captions"] | Float[Tensor, ""],
    log_alpha: Float[Tensor, "captions samples time"],
) -> Float[Tensor, " captions"]:
    """Return the mean over samples of sum_t (cost_t - baseline_t) log alpha(s_t) (Williams 1992; Xu et al. 2015, 11).

    Only log alpha carries a gradient.
    """
    return ((cost - baseline).detach() * log_alpha).sum(dim=-1).mean(dim=-1)


def cost_to_go(nll: Float[Tensor, "*rows time"]) -> Float[Tensor, "*rows time"]:
    """Return R_t, the sum of the negative log-likelihoods from step t on."""
    return nll.flip(-1).cumsum(dim=-1).flip(-1)


def leave_one_out(values: Float[Tensor, "batch samples *rest"]) -> Float[Tensor, "batch samples *rest"]:
    """Return the mean of the other samples, of which there must be at least two (RLOO, Kool et al. 2019)."""
    return (values.sum(dim=1, keepdim=True) - values) / (values.size(1) - 1)


class MovingAverageBaseline(nn.Module):
    """The mean negative log-likelihood per word against its moving average (Xu et al. 2015, equations 11 to 13).

    With semi-sampling it is biased: half the time the expected context takes the place of the sampled one.

    Args:
        weight: lambda_r; 6.4 is the authors' 1/10 of a sum over their batch of 64. None weights each caption with its
            own length, which makes the score-function part unbiased.
        entropy: lambda_H; 0.128 is the authors' 0.002 of such a sum.
        decay: of the moving average.
    """

    baseline: Tensor
    sums: Tensor  # of the negative log-likelihood of a step, and of its words
    num_samples = 1
    soft = False

    def __init__(
        self, sampler: AttentionSampler, weight: float | None = 6.4, entropy: float = 0.128, decay: float = 0.9
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.weight = weight
        self.entropy = entropy
        self.decay = decay
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(2), persistent=False)

    def forward(self, samples: Samples) -> Float[Tensor, " captions"]:
        """Return the loss; in training mode the batch is counted for the moving average."""
        nll, mask = samples.nll, samples.mask
        words = mask.sum(dim=-1)
        mean = nll.sum(dim=-1) / words.clamp(min=1).unsqueeze(-1)  # captions samples
        cost = mean.unsqueeze(-1) * mask.unsqueeze(1)
        weight = words if self.weight is None else self.weight
        surrogate = weight * reinforce(cost, self.baseline * mask.unsqueeze(1), samples.log_alpha)
        if self.training:
            self.sums += torch.stack([nll.detach().sum(), words.sum() * nll.size(1)]).to(self.sums)
        return expected_nll(samples, self.entropy) + surrogate

    def end_step(self) -> None:
        """Update the moving average by all batches of a step, those of other processes included."""
        nll, words = add_up(self.sums).unbind()
        self.baseline.lerp_(nll / words.clamp(min=1), 1 - self.decay)
        self.sums.zero_()


@dataclass
class LeaveOneOutEstimator:
    """Several samples, each against the mean of the others (Kool et al. 2019, equation 8); unbiased.

    Args:
        num_samples: at least 2.

    Raises:
        ValueError: there are fewer samples.
    """

    sampler: AttentionSampler
    num_samples: int = 4
    weight: float = 1.0
    entropy: float = 0.0
    soft: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.num_samples < 2:
            raise ValueError(f"num_samples {self.num_samples}: leave-one-out needs at least 2")

    def __call__(self, samples: Samples) -> Float[Tensor, " captions"]:
        """Return the loss."""
        cost = cost_to_go(samples.nll)
        surrogate = reinforce(cost, leave_one_out(cost), samples.log_alpha)
        return expected_nll(samples, self.entropy) + self.weight * surrogate


@dataclass
class SoftBaselineEstimator:
    """Each sample against the same model with soft attention (Shankar et al. 2018, 3); unbiased."""

    sampler: AttentionSampler
    num_samples: int = 1
    weight: float = 1.0
    entropy: float = 0.0
    soft: bool = field(default=True, init=False)

    def __call__(self, samples: Samples) -> Float[Tensor, " captions"]:
        """Return the loss."""
        assert samples.soft is not None
        baseline = cost_to_go(samples.soft).unsqueeze(1)
        surrogate = reinforce(cost_to_go(samples.nll), baseline, samples.log_alpha)
        return expected_nll(samples, self.entropy) + self.weight * surrogate


@dataclass
class StraightThroughGumbelEstimator:
    """No score-function part: the sampler itself carries a gradient (Jang et al. 2017); biased."""

    sampler: AttentionSampler
    num_samples: int = 1
    entropy: float = 0.0
    soft: bool = field(default=False, init=False)

    def __call__(self, samples: Samples) -> Float[Tensor, " captions"]:
        """Return the loss, of which the samples carry a gradient."""
        return expected_nll(samples, self.entropy)
