"""Minimum Bayes risk: rank hypotheses by their expected similarity to other outputs."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.decoding.protocol import Decoded
from attendgen.metrics.cider import ORDERS, compare_lengths
from attendgen.utils.special_tokens import EOS, PAD

# for every input, some outputs [m, length]
Evidence = Sequence[Int[Tensor, "_m _length"]]


def mbr_rerank(candidates: Decoded, evidence_sets: Sequence[Evidence], n_best: int) -> Decoded:
    """Return the `n_best` candidates of each input with the greatest expected similarity, which becomes their score.

    With samples of the model as evidence this is minimum-Bayes-risk decoding (Kumar and Byrne 2004, equation 4; Eikema
    and Aziz 2020, section 5); with captions of similar images it is the consensus caption of Devlin et al. (2015).

    Args:
        evidence_sets: each has the same weight, however many outputs it holds.
    """
    similarity = torch.stack(
        [
            torch.stack([expected_similarity(tokens, outputs) for outputs in evidence]).mean(dim=0)
            for tokens, *evidence in zip(candidates.tokens, *evidence_sets, strict=True)
        ]
    ).masked_fill(candidates.scores == -torch.inf, -torch.inf)
    scores, order = similarity.topk(n_best, dim=1)
    batch = torch.arange(len(order), device=order.device).unsqueeze(1)
    return Decoded(*(part[batch, order] for part in candidates))._replace(scores=scores)


def expected_similarity(hypotheses: Int[Tensor, "n length"], samples: Int[Tensor, "m other"]) -> Float[Tensor, " n"]:
    """Return the mean over samples of a similarity like CIDEr-D's (Vedantam et al. 2015, section 5), from 0 to 1.

    It is the mean over n-gram sizes 1 to 4 of clipped cosines of n-gram counts, less for a different length. An
    n-gram's weight is the sum of log(1 + id) over its tokens: ids are in order of frequency, so by Zipf's law the
    logarithm of an id is that of an inverse frequency up to a constant, and no corpus is needed.
    """
    longest = max(hypotheses.size(1), samples.size(1), ORDERS)
    rows = torch.cat([_pad_to(part, longest) for part in (hypotheses, samples)])
    is_word = (rows != PAD) & (rows != EOS)
    vocab = int(rows.max()) + 1
    information = rows.float().log1p()
    total = torch.zeros((), device=rows.device)
    grams = torch.zeros_like(rows)
    weights = torch.zeros_like(information)
    is_whole = torch.ones_like(is_word)
    for order in range(ORDERS):
        # an n-gram is an (n-1)-gram and the token after it; renumbering the n-grams keeps the products small
        positions = longest - order
        pairs = grams[:, :positions] * vocab + rows[:, order:]
        found, grams = pairs.unique(return_inverse=True)
        weights = weights[:, :positions] + information[:, order:]
        is_whole = is_whole[:, :positions] & is_word[:, order:]
        total = total + _cosines(grams, weights, is_whole, len(found), len(hypotheses))
    lengths = is_word.sum(dim=1).float()
    difference = lengths[: len(hypotheses)].unsqueeze(1) - lengths[len(hypotheses) :]
    return (total / ORDERS * compare_lengths(difference)).mean(dim=1)


def _cosines(
    grams: Int[Tensor, "rows positions"],
    weights: Float[Tensor, "rows positions"],
    is_whole: Bool[Tensor, "rows positions"],
    number: int,
    hypotheses: int,
) -> Float[Tensor, "n m"]:
    """Return the clipped cosine of each hypothesis, the first rows, with each sample, over n-grams of one size."""
    # each position adds its n-gram's weight: the count times the weight
    vectors = weights.new_zeros(len(grams), number).scatter_add(1, grams, weights * is_whole)
    theirs, norms = vectors[hypotheses:], vectors.norm(dim=1)
    # one hypothesis at a time: all at once would take as many times the memory
    shared = torch.stack([(torch.minimum(ours, theirs) * theirs).sum(dim=-1) for ours in vectors[:hypotheses]])
    return shared / (norms[:hypotheses].unsqueeze(1) * norms[hypotheses:]).clamp_min(torch.finfo(shared.dtype).tiny)


def _pad_to(tokens: Int[Tensor, "*rows length"], length: int) -> Int[Tensor, "*rows longer"]:
    return functional.pad(tokens, (0, length - tokens.size(-1)), value=PAD)


def concat_outputs(parts: Sequence[Decoded]) -> Decoded:
    """Concatenate several models' outputs of the same inputs, in this order; a repeated output has a score of -inf.

    Attention of different widths is aligned at the end.
    """
    longest = max(decoded.tokens.size(2) for decoded in parts)
    widest = max(decoded.attention.size(3) for decoded in parts)
    padded = []
    for tokens, scores, log_probs, attention in parts:
        later, wider = longest - tokens.size(2), widest - attention.size(3)
        attention = functional.pad(attention, (wider, 0, 0, later))
        padded.append((_pad_to(tokens, longest), scores, functional.pad(log_probs, (0, later)), attention))
    whole = Decoded(*(torch.cat(fields, dim=1) for fields in zip(*padded, strict=True)))
    same = (whole.tokens.unsqueeze(2) == whole.tokens.unsqueeze(1)).all(dim=-1)
    return whole._replace(scores=whole.scores.masked_fill(same.tril(-1).any(dim=-1), -torch.inf))


def apportion(count: int, shares: Sequence[float]) -> list[int]:
    """Return whole numbers that sum to `count`, in proportion to shares that sum to 1 (largest remainders)."""
    exact = [count * share for share in shares]
    parts = [int(part) for part in exact]
    largest = sorted(range(len(parts)), key=lambda index: parts[index] - exact[index])
    for index in largest[: count - sum(parts)]:
        parts[index] += 1
    return parts
