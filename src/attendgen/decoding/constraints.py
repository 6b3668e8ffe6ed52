"""Suppress tokens by length, by n-gram and by id."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def constrain(
    log_probs: Float[Tensor, "rows vocab"],
    history: Int[Tensor, "rows length"],
    suppress_tokens: tuple[int, ...] = (),
    eos_id: int | None = None,
    min_length: int = 1,
    no_repeat_ngram_size: int = 0,
) -> Float[Tensor, "rows vocab"]:
    """Set the log-probabilities of tokens that may not follow `history` to -inf, in place; the others stay the same.

    In a row where the minimum length and the n-gram rule together would leave no token, neither applies.

    Args:
        suppress_tokens: ids that are never chosen.
        eos_id: ends an output, and is suppressed until the output has `min_length` tokens, `eos_id` included.
        no_repeat_ngram_size: the n of n-grams that may not occur twice (Paulus et al. 2018, 2.5); 0 turns it off.
    """
    log_probs[:, list(suppress_tokens)] = -torch.inf
    allowed = log_probs
    if eos_id is not None and history.size(1) + 1 < min_length:
        allowed = allowed.clone()
        allowed[:, eos_id] = -torch.inf
    if 0 < no_repeat_ngram_size <= history.size(1):
        repeated = find_repeats(history, no_repeat_ngram_size, log_probs.size(1))
        allowed = allowed.masked_fill(repeated, -torch.inf)
    if allowed is log_probs:
        return log_probs
    nothing = (allowed == -torch.inf).all(dim=1, keepdim=True)
    return torch.where(nothing, log_probs, allowed)


def find_repeats(history: Int[Tensor, "rows length"], n: int, vocab: int) -> Bool[Tensor, "rows vocab"]:
    """Return which next tokens would complete an n-gram that `history` holds already."""
    grams = history.unfold(1, n, 1)  # rows, positions, n
    begun = (grams[..., :-1] == history[:, None, history.size(1) - n + 1 :]).all(dim=-1)
    # a position that does not match writes into an extra column, which is cut off
    completed = grams[..., -1].masked_fill(~begun, vocab)
    banned = torch.zeros(len(history), vocab + 1, dtype=torch.bool, device=history.device)
    return banned.scatter_(1, completed, True)[:, :vocab]
