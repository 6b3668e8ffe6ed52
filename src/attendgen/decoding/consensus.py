"""Minimum Bayes risk: of some hypotheses, those most like whatever else the model might have said."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.decoding.protocol import Decoded
from attendgen.vocabulary import EOS, PAD

ORDERS = 4
SIGMA = 6.0  # in symbols


def by_consensus(decoded: Decoded, voices: Sequence[Sequence[Tensor]], n_best: int) -> Decoded:
    """The `n_best` hypotheses of each input with the greatest expected similarity, which becomes their score.

    With samples of the model's own distribution as the expectation (Eikema and Aziz 2020, 5; Kumar and Byrne 2004,
    equation 4): a hypothesis that agrees with many likely outputs wins over one that is merely the likeliest.

    Args:
        voices: those that are heard, with the same say: of each, for every input, some outputs [m, length].
    """
    similarity = torch.stack(
        [
            torch.stack([expected_similarity(tokens, said) for said in heard]).mean(dim=0)
            for tokens, *heard in zip(decoded.tokens, *voices, strict=True)
        ]
    ).masked_fill(decoded.scores == -torch.inf, -torch.inf)
    scores, order = similarity.topk(n_best, dim=1)
    batch = torch.arange(len(order), device=order.device).unsqueeze(1)
    return Decoded(*(part[batch, order] for part in decoded))._replace(scores=scores)


def expected_similarity(hypotheses: Int[Tensor, "n length"], samples: Int[Tensor, "m other"]) -> Float[Tensor, " n"]:
    """The mean over samples of a similarity like CIDEr-D's (Vedantam et al. 2015, 5), from 0 to 1.

    Clipped cosines of n-gram counts of one to four symbols, averaged, less for another length. An n-gram's weight is
    the sum of log(1 + id) over its symbols: ids are in order of frequency, so that the logarithm of one is, but for a
    constant, that of an inverse frequency (Zipf's law), and no corpus is needed.
    """
    longest = max(hypotheses.size(1), samples.size(1), ORDERS)
    rows = torch.cat([_padded(part, longest) for part in (hypotheses, samples)])
    real = (rows != PAD) & (rows != EOS)
    symbols = int(rows.max()) + 1
    information = rows.float().log1p()
    total = torch.zeros((), device=rows.device)
    grams = torch.zeros_like(rows)
    weights = torch.zeros_like(information)
    whole = torch.ones_like(real)
    for order in range(ORDERS):
        # an n-gram is an (n-1)-gram and the symbol after it; numbering them anew keeps the products small
        places = longest - order
        pairs = grams[:, :places] * symbols + rows[:, order:]
        found, grams = pairs.unique(return_inverse=True)
        weights = weights[:, :places] + information[:, order:]
        whole = whole[:, :places] & real[:, order:]
        total = total + _cosines(grams, weights, whole, len(found), len(hypotheses))
    lengths = real.sum(dim=1).float()
    apart = lengths[: len(hypotheses)].unsqueeze(1) - lengths[len(hypotheses) :]
    return (total / ORDERS * torch.exp(-(apart**2) / (2 * SIGMA**2))).mean(dim=1)


def _cosines(
    grams: Int[Tensor, "rows places"],
    weights: Float[Tensor, "rows places"],
    whole: Bool[Tensor, "rows places"],
    number: int,
    hypotheses: int,
) -> Float[Tensor, "n m"]:
    """Clipped cosine of each hypothesis, the first rows, with each sample, over n-grams of one order."""
    # each place adds its n-gram's weight: the count times the weight
    vectors = weights.new_zeros(len(grams), number).scatter_add(1, grams, weights * whole)
    theirs, norms = vectors[hypotheses:], vectors.norm(dim=1)
    # one hypothesis at a time: all of them with all samples are as many times as large
    shared = torch.stack([(torch.minimum(ours, theirs) * theirs).sum(dim=-1) for ours in vectors[:hypotheses]])
    return shared / (norms[:hypotheses].unsqueeze(1) * norms[hypotheses:]).clamp_min(torch.finfo(shared.dtype).tiny)


def _padded(tokens: Int[Tensor, "*rows length"], length: int) -> Int[Tensor, "*rows longer"]:
    return functional.pad(tokens, (0, length - tokens.size(-1)), value=PAD)


def gathered(found: Sequence[Decoded]) -> Decoded:
    """Several models' outputs of the same inputs as one, in this order; what comes again has a score of -inf.

    Attention that reaches less far ends where the farthest does.
    """
    longest = max(decoded.tokens.size(2) for decoded in found)
    widest = max(decoded.attention.size(3) for decoded in found)
    fields = []
    for tokens, scores, log_probs, attention in found:
        later, wider = longest - tokens.size(2), widest - attention.size(3)
        attention = functional.pad(attention, (wider, 0, 0, later))
        fields.append((_padded(tokens, longest), scores, functional.pad(log_probs, (0, later)), attention))
    joined = Decoded(*(torch.cat(parts, dim=1) for parts in zip(*fields, strict=True)))
    same = (joined.tokens.unsqueeze(2) == joined.tokens.unsqueeze(1)).all(dim=-1)
    return joined._replace(scores=joined.scores.masked_fill(same.tril(-1).any(dim=-1), -torch.inf))


def parted(count: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `count`, in proportion to shares that sum to 1 (method of largest remainders)."""
    exact = [count * share for share in shares]
    parts = [int(part) for part in exact]
    largest = sorted(range(len(parts)), key=lambda index: parts[index] - exact[index])
    for index in largest[: count - sum(parts)]:
        parts[index] += 1
    return parts
