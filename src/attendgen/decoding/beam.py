"""Beam search over inputs and hypotheses in one set of tensors."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.protocol import Decoded, Generator, first_tokens, take_rows
from attendgen.vocabulary import EOS, PAD, SOS


def length_penalty(length: Int[Tensor, "*n"] | int, alpha: float) -> Float[Tensor, "*n"]:
    """((5 + length) / 6)^alpha (Wu et al. 2016, 7); a score is divided by it. alpha 0 ranks by log-probability."""
    return ((5 + torch.as_tensor(length)) / 6) ** alpha


@torch.inference_mode()
def beam_search(
    model: Generator,
    memory: Any,
    state: Any,
    max_length: int,
    width: int = 5,
    n_best: int = 1,
    alpha: float = 0.0,
    forbidden: tuple[int, ...] = (PAD, SOS),
    first: Int[Tensor, " batch"] | None = None,
    stop: int | None = EOS,
) -> Decoded:
    """The `n_best` outputs of each input that a beam of `width` hypotheses finds.

    Finished hypotheses are kept apart, the best `width` of each input. The search ends when no open hypothesis of any
    input can beat its kept ones, or at `max_length`, where the open ones count as they stand.

    Args:
        alpha: exponent of the length penalty, at least 0.
        forbidden: ids never chosen.
        first: the symbol before each input's first one; <sos> unless given.
        stop: the id that ends a hypothesis; None goes on to `max_length`.

    Raises:
        ValueError: `width` is below 1 or below `n_best`.
    """
    if not 1 <= n_best <= width:
        raise ValueError(f"n-best {n_best} needs a beam of at least that width and at least 1, not {width}")
    batch = state[0].size(0)
    device = state[0].device
    rows = torch.arange(batch, device=device).repeat_interleave(width)
    state = take_rows(state, rows)
    offset = torch.arange(batch, device=device).unsqueeze(1) * width
    tokens = first_tokens(state, SOS) if first is None else first[rows]
    # all hypotheses of an input start the same: only the first may grow at first
    scores = torch.full((batch, width), -torch.inf, device=device)
    scores[:, 0] = 0.0

    history = torch.empty(batch, width, 0, dtype=torch.long, device=device)
    steps = torch.empty(batch, width, 0, device=device)
    attention: Tensor | None = None
    finished: Decoded | None = None

    for length in range(1, max_length + 1):
        log_probs, alphas, state = model.step(tokens, state, memory)
        log_probs[:, list(forbidden)] = -torch.inf
        log_probs = log_probs.view(batch, width, -1)
        symbols = log_probs.size(-1)
        # twice the width: even if half of them end, a full beam stays open
        total, best = (scores.unsqueeze(-1) + log_probs).flatten(1).topk(min(2 * width, width * symbols), dim=1)
        parent, token = best // symbols, best % symbols
        history = torch.cat([_pick(history, parent), token.unsqueeze(-1)], dim=-1)
        steps = torch.cat([_pick(steps, parent), log_probs.flatten(1).gather(1, best).unsqueeze(-1)], dim=-1)
        alphas = _pick(alphas.view(batch, width, 1, -1), parent)
        attention = alphas if attention is None else torch.cat([_pick(attention, parent), alphas], dim=2)

        ends = torch.full_like(token, length == max_length, dtype=torch.bool)
        if stop is not None:
            ends |= token == stop
        # only what falls within the beam may end: a beam of width 1 must not end on its second choice
        kept = ends & (torch.arange(total.size(1), device=device) < width)
        ranked = (total / length_penalty(length, alpha).to(total)).masked_fill(~kept, -torch.inf)
        finished = _keep(finished, Decoded(history, ranked, steps, attention), width)
        if length == max_length:
            break

        scores, open_ = total.masked_fill(ends, -torch.inf).topk(width, dim=1)
        history, steps, attention = (_pick(part, open_) for part in (history, steps, attention))
        # log-probabilities only fall: dividing by the largest penalty to come bounds what a hypothesis can reach
        bound = scores[:, 0] / length_penalty(max_length if alpha > 0 else length, alpha).to(scores)
        if bool((finished.scores[:, n_best - 1] >= bound).all()):
            break
        state = take_rows(state, (offset + parent.gather(1, open_)).flatten())
        tokens = history[:, :, -1].flatten()

    assert finished is not None
    length = int((finished.tokens[:, :n_best] != PAD).sum(dim=-1).max())
    return Decoded(
        finished.tokens[:, :n_best, :length],
        finished.scores[:, :n_best],
        finished.log_probs[:, :n_best, :length],
        finished.attention[:, :n_best, :length],
    )


def _pick(values: Tensor, index: Int[Tensor, "batch chosen"]) -> Tensor:
    """Choose along the second dimension, input by input."""
    return values[torch.arange(len(index), device=index.device).unsqueeze(1), index]


def _keep(kept: Decoded | None, new: Decoded, width: int) -> Decoded:
    """The best `width` of the kept and the newly finished hypotheses, all padded to the new length."""
    if kept is not None:
        parts = [torch.cat([_longer(old, part), part], dim=1) for old, part in zip(kept, new, strict=True)]
        new = Decoded(*parts)
    scores, best = new.scores.topk(min(width, new.scores.size(1)), dim=1)
    # a hypothesis that does not exist must not look like one
    void = (scores == -torch.inf).unsqueeze(-1)
    return Decoded(
        _pick(new.tokens, best).masked_fill(void, PAD),
        scores,
        _pick(new.log_probs, best).masked_fill(void, 0.0),
        _pick(new.attention, best).masked_fill(void.unsqueeze(-1), 0.0),
    )


def _longer(old: Tensor, like: Tensor) -> Tensor:
    """Pad a kept tensor's third dimension with zeros (<pad> is 0) to that of the new one."""
    if old.ndim < 3 or old.size(2) == like.size(2):
        return old
    shape = (*old.shape[:2], like.size(2) - old.size(2), *old.shape[3:])
    return torch.cat([old, old.new_zeros(shape)], dim=2)
