"""Masked cross-entropy and the doubly stochastic penalty."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.vocabulary import PAD


def masked_cross_entropy(
    logits: Float[Tensor, "*batch symbols"], targets: Int[Tensor, "*batch"], smoothing: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The summed negative log-likelihood in nats of all targets that are not <pad>, and their number.

    Sums and counts can be added over batches and devices of unequal size; means cannot. `smoothing` is the share of
    the target distribution spread evenly over all symbols (Szegedy et al. 2016, 7).
    """
    return _cross_entropy(logits, targets, smoothing, "sum"), (targets != PAD).sum()


def token_nats(
    logits: Float[Tensor, "*rows time symbols"], targets: Int[Tensor, "*rows time"], smoothing: float = 0.0
) -> Float[Tensor, "*rows time"]:
    """The negative log-likelihood in nats of each target, zero for <pad>."""
    return _cross_entropy(logits, targets, smoothing, "none").view(targets.shape)


def cross_entropy_by_caption(
    logits: Float[Tensor, "*rows time symbols"], targets: Int[Tensor, "*rows time"], smoothing: float = 0.0
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The sum over captions of each one's mean negative log-likelihood in nats a word, and the number of captions.

    A word counts the more the shorter its caption, so the model learns the shorter captions of a picture rather than
    the longer ones. Rows of <pad> are no captions.
    """
    nats = token_nats(logits, targets, smoothing)
    words = (targets != PAD).sum(dim=-1)
    return (nats.sum(dim=-1) / words.clamp(min=1)).sum(), (words > 0).sum()


def _cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, reduction: str) -> Tensor:
    """In single precision, <pad> counting nothing."""
    return functional.cross_entropy(
        logits.flatten(0, -2).float(),
        targets.reshape(-1),
        ignore_index=PAD,
        reduction=reduction,
        label_smoothing=smoothing,
    )


def doubly_stochastic(
    alphas: Float[Tensor, "*rows time regions"], mask: Bool[Tensor, "*rows time"]
) -> Float[Tensor, " *rows"]:
    """sum_i (1 - sum_t alpha_ti)^2 of each caption: look at every region once (Xu et al. 2015, equation 14).

    Zero for a row without a word, which is no caption.
    """
    looked = (alphas.float() * mask.unsqueeze(-1)).sum(dim=-2)
    penalty = (1 - looked).square().sum(dim=-1)
    return torch.where(mask.any(dim=-1), penalty, 0.0)
