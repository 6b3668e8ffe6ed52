"""Minimum Bayes risk: rank hypotheses by their expected similarity to other outputs."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.decoding.protocol import Decoded
from attendgen.decoding.waiting import send
from attendgen.layers.prepared import MOST_TOKENS
from attendgen.metrics.cider import ORDERS, compare_lengths, count_repeats
from attendgen.utils.special_tokens import EOS, PAD

INPUTS, GPU_INPUTS = 16, 128  # compared at a time: what stays within the cache, and what fits into the memory

# for every input, some outputs [m, length]
Evidence = Sequence[Int[Tensor, "_m _length"]]


def mbr_rerank(candidates: Decoded, evidence_sets: Sequence[Evidence], n_best: int) -> Decoded:
    """Return the `n_best` candidates of each input with the greatest expected similarity, which becomes their score.

    With samples of the model as evidence this is minimum-Bayes-risk decoding (Kumar and Byrne 2004, equation 4; Eikema
    and Aziz 2020, section 5); with captions of similar images it is the consensus caption of Devlin et al. (2015).

    Args:
        evidence_sets: each has the same weight, however many outputs it holds.
    """
    found = [_compare(candidates.tokens, evidence) for evidence in evidence_sets]
    similarity = torch.stack(found).mean(dim=0).masked_fill(candidates.scores == -torch.inf, -torch.inf)
    scores, order = similarity.topk(n_best, dim=1)
    batch = torch.arange(len(order), device=order.device).unsqueeze(1)
    return Decoded(*(part[batch, order] for part in candidates))._replace(scores=scores)


def _compare(candidates: Int[Tensor, "batch n length"], evidence: Evidence) -> Float[Tensor, "batch n"]:
    """Return the expected similarity of each input's candidates to its evidence, some inputs at a time."""
    found = []
    each = INPUTS if candidates.device.type == "cpu" else GPU_INPUTS
    for start in range(0, len(candidates), each):
        parts = evidence[start : start + each]
        most, longest = (max(part.size(axis) for part in parts) for axis in (0, 1))
        padded = [functional.pad(part, (0, longest - part.size(1), 0, most - len(part)), value=PAD) for part in parts]
        counts = send([len(part) for part in parts], candidates.device)
        similarities = compare_outputs(candidates[start : start + each], torch.stack(padded))
        found.append(similarities.sum(dim=2) / counts.unsqueeze(1))  # padding is like nothing
    return torch.cat(found)


def compare_outputs(
    hypotheses: Int[Tensor, "batch n length"], others: Int[Tensor, "batch m other"]
) -> Float[Tensor, "batch n m"]:
    """Return a similarity like CIDEr-D's (Vedantam et al. 2015, section 5), from 0 to 1.

    It is the mean over n-gram sizes 1 to 4 of clipped cosines of n-gram counts, less for a different length. An
    n-gram's weight is the sum of log(1 + id) over its tokens: ids are in order of frequency, so by Zipf's law the
    logarithm of an id is that of an inverse frequency up to a constant, and no corpus is needed.
    """
    number, longest = hypotheses.size(1), max(hypotheses.size(2), others.size(2), ORDERS)
    rows = torch.cat([_pad_to(part, longest) for part in (hypotheses, others)], dim=1)
    is_word = (rows != PAD) & (rows != EOS)
    information = rows.float().log1p()
    grams, weights = torch.zeros_like(rows), torch.zeros_like(information)
    is_whole = torch.ones_like(is_word)
    total = torch.zeros((), device=rows.device)
    for order, repeats in enumerate(count_repeats(rows)):
        # an n-gram is an (n-1)-gram and the token after it
        positions = longest - order
        grams, columns = number_ngrams(grams[..., :positions] * MOST_TOKENS + rows[..., order:], number)
        weights = weights[..., :positions] + information[..., order:]
        is_whole = is_whole[..., :positions] & is_word[..., order:]
        counted = weights * is_whole
        # each of an n-gram's positions adds its count times the squared weight
        norms = (repeats * counted.square()).sum(dim=-1).sqrt()
        # each position adds its n-gram's weight: the count times the weight
        vectors = weights.new_zeros(*rows.shape[:2], columns + 1).scatter_add(2, grams, counted)[..., :columns]
        total = total + _cosines(vectors, norms, number)
    lengths = is_word.sum(dim=2).float()
    difference = lengths[:, :number].unsqueeze(2) - lengths[:, number:].unsqueeze(1)
    return total / ORDERS * compare_lengths(difference)


def number_ngrams(
    grams: Int[Tensor, "batch rows positions"], hypotheses: int
) -> tuple[Int[Tensor, "batch rows positions"], int]:
    """Return n-grams numbered from 0 by those of each input's hypotheses, the first rows, and how many these are.

    All other n-grams have the next number: they are in no hypothesis, and neither is a longer one that begins so.
    """
    known = grams[:, :hypotheses].flatten(1).sort(dim=1).values
    is_new = functional.pad(known[:, 1:] != known[:, :-1], (1, 0), value=False)
    numbers = is_new.long().cumsum(dim=1)
    # without a wait for a GPU: there may be as many as positions
    columns = known.size(1) if known.is_cuda else int(numbers[:, -1].max()) + 1
    places = torch.searchsorted(known, grams.flatten(1)).clamp(max=known.size(1) - 1)
    is_known = known.gather(1, places) == grams.flatten(1)
    return torch.where(is_known, numbers.gather(1, places), columns).view_as(grams), columns


def _cosines(
    vectors: Float[Tensor, "batch rows grams"], norms: Float[Tensor, "batch rows"], hypotheses: int
) -> Float[Tensor, "batch n m"]:
    """Return the clipped cosine of each hypothesis, the first rows, with each other output."""
    theirs = vectors[:, hypotheses:]
    # one hypothesis at a time: all at once would take as many times the memory
    shared = [
        (torch.minimum(ours.unsqueeze(1), theirs) * theirs).sum(dim=-1) for ours in vectors.unbind(1)[:hypotheses]
    ]
    products = norms[:, :hypotheses].unsqueeze(2) * norms[:, hypotheses:].unsqueeze(1)
    return torch.stack(shared, dim=1) / products.clamp_min(torch.finfo(products.dtype).tiny)


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
