"""Masked cross-entropy, and penalties of the attention."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.utils.special_tokens import PAD


def masked_nll(
    log_probs: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"], label_smoothing: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return `masked_cross_entropy` of log-probabilities, which are not normalized again."""
    mask = targets != PAD
    nll = -log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        nll = (1 - label_smoothing) * nll - label_smoothing / log_probs.size(-1) * log_probs.sum(dim=-1)
    return nll.masked_fill(~mask, 0.0).sum(), mask.sum()


def masked_cross_entropy(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"], label_smoothing: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the summed negative log-likelihood in nats of all targets that are not <pad>, and their number.

    Sums and counts can be added over batches and devices of unequal size; means cannot.

    Args:
        label_smoothing: share of the target distribution that is uniform over the vocabulary (Szegedy et al. 2016, 7).
    """
    return _cross_entropy(logits, targets, label_smoothing, "sum"), (targets != PAD).sum()


def token_nll(
    logits: Float[Tensor, "*rows time vocab"], targets: Int[Tensor, "*rows time"], label_smoothing: float = 0.0
) -> Float[Tensor, "*rows time"]:
    """Return the negative log-likelihood in nats of each target, zero for <pad>."""
    return _cross_entropy(logits, targets, label_smoothing, "none").view(targets.shape)


def cross_entropy_per_caption(
    logits: Float[Tensor, "*rows time vocab"], targets: Int[Tensor, "*rows time"], label_smoothing: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the sum over captions of each one's mean negative log-likelihood per word, and the number of captions.

    The words of a short caption have a greater weight, so the model prefers the shorter captions of an image. Rows of
    <pad> are not captions.
    """
    nll = token_nll(logits, targets, label_smoothing)
    words = (targets != PAD).sum(dim=-1)
    return (nll.sum(dim=-1) / words.clamp(min=1)).sum(), (words > 0).sum()


def _cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float, reduction: str) -> Tensor:
    """Compute the cross-entropy in single precision; <pad> counts nothing."""
    return functional.cross_entropy(
        logits.flatten(0, -2).float(),
        targets.reshape(-1),
        ignore_index=PAD,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def doubly_stochastic(
    alphas: Float[Tensor, "*rows time regions"], mask: Bool[Tensor, "*rows time"]
) -> Float[Tensor, " *rows"]:
    """Return sum_i (1 - sum_t alpha_ti)^2 of each caption (Xu et al. 2015, equation 14).

    The penalty is smallest if the attention to each region sums to 1. It is zero for a row without words.
    """
    attended = (alphas.float() * mask.unsqueeze(-1)).sum(dim=-2)
    penalty = (1 - attended).square().sum(dim=-1)
    return torch.where(mask.any(dim=-1), penalty, 0.0)


def coverage_loss(
    alphas: Float[Tensor, "*rows time source"], mask: Bool[Tensor, "*rows time"]
) -> Float[Tensor, " *rows"]:
    """Return sum_t sum_i min(alpha_ti, c_ti), where c_t is the sum of earlier alphas (See et al. 2017, 12)."""
    alphas = alphas.float()
    covered = alphas.cumsum(dim=-2) - alphas
    return (torch.minimum(alphas, covered).sum(dim=-1) * mask).sum(dim=-1)
