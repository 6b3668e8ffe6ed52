"""What an output may not hold, whatever the model thinks of it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def constrain(
    log_probs: Float[Tensor, "rows symbols"],
    history: Int[Tensor, "rows length"],
    forbidden: tuple[int, ...] = (),
    stop: int | None = None,
    min_length: int = 1,
    no_repeat: int = 0,
) -> Float[Tensor, "rows symbols"]:
    """Log-probabilities, changed in place, with -inf for what may not follow `history`; the others stay as they are.

    The minimum length and the n-gram rule give way in a row of which they would leave nothing.

    Args:
        forbidden: ids never chosen.
        stop: the id that ends an output, kept out until the output has `min_length` symbols, `stop` included.
        no_repeat: the n of the n-grams that may not come twice in an output (Paulus et al. 2018, 2.5); 0 is no rule.
    """
    log_probs[:, list(forbidden)] = -torch.inf
    allowed = log_probs
    if stop is not None and history.size(1) + 1 < min_length:
        allowed = allowed.clone()
        allowed[:, stop] = -torch.inf
    if 0 < no_repeat <= history.size(1):
        allowed = allowed.masked_fill(repeats(history, no_repeat, log_probs.size(1)), -torch.inf)
    if allowed is log_probs:
        return log_probs
    nothing = (allowed == -torch.inf).all(dim=1, keepdim=True)
    return torch.where(nothing, log_probs, allowed)


def repeats(history: Int[Tensor, "rows length"], n: int, symbols: int) -> Bool[Tensor, "rows symbols"]:
    """Which next symbols would complete an n-gram that `history` holds already."""
    grams = history.unfold(1, n, 1)  # rows, places, n
    begun = (grams[..., :-1] == history[:, None, history.size(1) - n + 1 :]).all(dim=-1)
    # a place that does not match writes into a column that is then cut off
    completed = grams[..., -1].masked_fill(~begun, symbols)
    banned = torch.zeros(len(history), symbols + 1, dtype=torch.bool, device=history.device)
    return banned.scatter_(1, completed, True)[:, :symbols]
