"""Beam search over inputs and hypotheses in one set of tensors."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attendgen.decoding.constraints import constrain
from attendgen.decoding.protocol import Decoded, Generator, first_tokens, take_rows
from attendgen.decoding.ranking import Ranking
from attendgen.vocabulary import EOS, PAD, SOS


class Hypotheses(NamedTuple):
    """Some hypotheses of each input; `seen` says in which row of all steps' attention each token was predicted."""

    scores: Float[Tensor, "batch n"]
    tokens: Int[Tensor, "batch n length"]
    log_probs: Float[Tensor, "batch n length"]
    seen: Int[Tensor, "batch n length"]


@torch.inference_mode()
def beam_search(
    model: Generator,
    memory: Any,
    state: Any,
    max_length: int,
    width: int = 5,
    n_best: int = 1,
    ranking: Ranking | None = None,
    forbidden: tuple[int, ...] = (PAD, SOS),
    first: Int[Tensor, " batch"] | None = None,
    stop: int | None = EOS,
    min_length: int = 1,
    no_repeat: int = 0,
) -> Decoded:
    """The `n_best` outputs of each input that a beam of `width` hypotheses finds.

    Finished hypotheses are kept apart, the best `width` of each input. An input's search ends when none of its open
    hypotheses can beat its kept ones, or at `max_length`, where the open ones count as they stand; the inputs that have
    ended are then dropped from the batch.

    Args:
        ranking: how hypotheses compare; by log-probability unless given.
        forbidden, min_length, no_repeat: see `constrain`.
        first: the symbol before each input's first one; <sos> unless given.
        stop: the id that ends a hypothesis; None goes on to `max_length`.

    Raises:
        ValueError: `width` is below 1 or below `n_best`.
    """
    if not 1 <= n_best <= width:
        raise ValueError(f"n-best {n_best} needs a beam of at least that width and at least 1, not {width}")
    ranking = ranking or Ranking()
    inputs, device = state[0].size(0), state[0].device
    mask = getattr(memory, "mask", None)
    rows = torch.arange(inputs, device=device).repeat_interleave(width)
    state = take_rows(state, rows)
    tokens = first_tokens(state, SOS) if first is None else first[rows]

    empty = torch.empty(inputs, width, 0, dtype=torch.long, device=device)
    # all hypotheses of an input start the same: only the first may grow at first
    scores = torch.full((inputs, width), -torch.inf, device=device)
    scores[:, 0] = 0.0
    beam = Hypotheses(scores, empty, empty.float(), empty)
    kept: Hypotheses | None = None
    attended: Tensor | None = None  # attention summed over the steps, for the coverage penalty
    attention: list[Tensor] = []
    predicted = 0  # rows of attention so far
    open_ = torch.arange(inputs, device=device)  # the inputs that are still searched
    ended: list[tuple[Tensor, Hypotheses]] = []

    for length in range(1, max_length + 1):
        log_probs, alphas, state = model.step(tokens, state, memory)
        log_probs = constrain(log_probs, beam.tokens.flatten(0, 1), forbidden, stop, min_length, no_repeat)
        log_probs = log_probs.unflatten(0, (-1, width))
        batch, _, symbols = log_probs.shape
        attention.append(alphas)
        total = beam.scores.unsqueeze(-1) + log_probs
        penalty = ranking.penalty(length)
        ranked = total if penalty == 1.0 else total / penalty
        if ranking.coverage:
            now = alphas.unflatten(0, (-1, width))
            attended = now if attended is None else attended + now
            ranked = ranked + ranking.covered(attended, None if mask is None else mask.unsqueeze(1)).unsqueeze(-1)
        # twice the width: even if half of them end, a full beam stays open
        rank, best = ranked.flatten(1).topk(min(2 * width, width * symbols), dim=1)
        parent, token = best // symbols, best % symbols
        grown = Hypotheses(
            total.flatten(1).gather(1, best),
            torch.cat([_pick(beam.tokens, parent), token.unsqueeze(-1)], dim=-1),
            torch.cat([_pick(beam.log_probs, parent), log_probs.flatten(1).gather(1, best).unsqueeze(-1)], dim=-1),
            torch.cat([_pick(beam.seen, parent), (predicted + _row(parent, width)).unsqueeze(-1)], dim=-1),
        )
        predicted += batch * width

        ends = torch.full_like(token, length == max_length, dtype=torch.bool)
        if stop is not None:
            ends |= token == stop
        # only what falls within the beam may end: a beam of width 1 must not end on its second choice
        whole = ends & (torch.arange(token.size(1), device=device) < width)
        kept = _keep(kept, grown._replace(scores=rank.masked_fill(~whole, -torch.inf)), width)
        if length == max_length:
            break

        chosen = rank.masked_fill(ends, -torch.inf).topk(width, dim=1).indices
        beam = Hypotheses(*(_pick(part, chosen) for part in grown))
        beam = beam._replace(scores=beam.scores.masked_fill(ends.gather(1, chosen), -torch.inf))
        parent = parent.gather(1, chosen)
        tokens = beam.tokens[..., -1]
        done = kept.scores[:, n_best - 1] >= ranking.bound(beam.scores.max(dim=1).values, length, max_length)
        if bool(done.all()):
            break
        if attended is not None:
            attended = _pick(attended, parent)
        rows = _row(parent, width)
        if int(done.sum()) * 8 >= batch:  # a smaller batch is worth a copy of the memory
            ended.append((open_[done], Hypotheses(*(part[done] for part in kept))))
            going = (~done).nonzero().squeeze(1)
            open_, rows, tokens = open_[going], rows[going], tokens[going]
            beam, kept = (Hypotheses(*(part[going] for part in some)) for some in (beam, kept))
            memory = take_rows(memory, going)
            mask = mask if mask is None else mask[going]
            attended = attended if attended is None else attended[going]
        state = take_rows(state, rows.flatten())
        tokens = tokens.flatten()

    assert kept is not None
    ended.append((open_, kept))
    return _collect(ended, torch.cat(attention), n_best)


def _pick(values: Tensor, index: Int[Tensor, "batch chosen"]) -> Tensor:
    """Choose along the second dimension, input by input."""
    return values[torch.arange(len(index), device=index.device).unsqueeze(1), index]


def _row(hypothesis: Int[Tensor, "batch chosen"], width: int) -> Int[Tensor, "batch chosen"]:
    """The rows of a flattened beam in which hypotheses stand."""
    return hypothesis + torch.arange(len(hypothesis), device=hypothesis.device).unsqueeze(1) * width


def _keep(kept: Hypotheses | None, new: Hypotheses, width: int) -> Hypotheses:
    """The best `width` of the kept and the newly finished hypotheses, all padded to the new length."""
    if kept is not None:
        new = Hypotheses(*(torch.cat([_longer(old, part), part], dim=1) for old, part in zip(kept, new, strict=True)))
    scores, best = new.scores.topk(min(width, new.scores.size(1)), dim=1)
    return Hypotheses(scores, *(_pick(part, best) for part in new[1:]))


def _longer(old: Tensor, like: Tensor) -> Tensor:
    """Pad a kept tensor's third dimension with zeros (<pad> is 0) to that of the new one."""
    if old.ndim < 3 or old.size(2) == like.size(2):
        return old
    return torch.nn.functional.pad(old, (0, like.size(2) - old.size(2)))


def _collect(
    ended: list[tuple[Tensor, Hypotheses]], attention: Float[Tensor, "predicted source"], n_best: int
) -> Decoded:
    """The n best of all inputs in their own order, with the attention of each token."""
    longest = max((part for _, part in ended), key=lambda part: part.tokens.size(2)).tokens
    joined = Hypotheses(
        *(torch.cat([_longer(part, longest) for part in parts]) for parts in zip(*(p for _, p in ended), strict=True))
    )
    order = torch.cat([index for index, _ in ended]).argsort()
    scores, tokens, log_probs, seen = (part[order, :n_best] for part in joined)
    # a hypothesis that does not exist must not look like one
    void: Bool[Tensor, "batch n 1"] = (scores == -torch.inf).unsqueeze(-1)
    tokens = tokens.masked_fill(void, PAD)
    length = int((tokens != PAD).sum(dim=-1).max())
    tokens = tokens[..., :length]
    blank = tokens == PAD
    alphas = attention[seen[..., :length]].masked_fill(blank.unsqueeze(-1), 0.0)
    return Decoded(tokens, scores, log_probs[..., :length].masked_fill(blank, 0.0), alphas)
