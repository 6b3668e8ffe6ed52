"""Rows of one input that are equal so far, and share their steps."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.decoding.protocol import DecodableModel
from attendgen.layers.graphs import get_random_state
from attendgen.layers.prepared import DISTINCT, MOST_TOKENS
from attendgen.layers.state import take_rows


class SharedRows:
    """The rows of a decoding: what a model computes for them, and the distinct states that this needs.

    Rows that have the same tokens have the same state. Of a hundred sampled captions of one image, most begin alike. On
    a GPU rows share the first step alone, because the host would have to wait to find equal rows. They share none if
    the model draws random numbers of torch's in a step, as sampled attention does: each row needs its own.

    Args:
        state: the first one, a row per input.
        tokens: before each input's first one.
        copies: rows per input.
    """

    def __init__(self, model: DecodableModel, state: Any, tokens: Int[Tensor, " inputs"], copies: int = 1) -> None:
        self.model, self.state, self.tokens = model, state, tokens
        self.can_share = copies > 1 and tokens.device.type == "cpu"
        self.copy_of: Int[Tensor, " rows"] | None = None  # the row of the state for each row; None if each has one
        if copies > 1:
            self.copy_of = torch.arange(len(tokens), device=tokens.device).repeat_interleave(copies)

    def step(self, memory: Any) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"]]:
        """Return log-probabilities of each row's next token, and its attention weights."""
        if self.copy_of is None:
            log_probs, alpha, self.state = self.model.step(self.tokens, self.state, memory)
            return log_probs, alpha
        before = get_random_state(self.tokens.device)
        log_probs, alpha, state = self.model.step(self.tokens, self.state, memory)
        if not before.equal(get_random_state(self.tokens.device)):
            self.tokens, self.state = take_rows((self.tokens, self.state), self.copy_of)
            self.copy_of = None
            return self.step(memory)
        self.state = state
        return take_rows((log_probs, alpha), self.copy_of)

    def advance(
        self,
        tokens: Int[Tensor, " kept"],
        ended: Bool[Tensor, " kept"],
        rows_per_input: int,
        kept: Int[Tensor, " kept"] | None = None,
    ) -> None:
        """Go on with the rows' next tokens.

        Args:
            tokens: one for each kept row.
            ended: whether a kept row has ended; what is computed for it does not matter.
            rows_per_input: of the kept rows.
            kept: rows to go on with; all of them unless given.
        """
        has_ended = self.can_share and bool(ended.any())
        if self.copy_of is None and kept is None and not has_ended:
            self.tokens = tokens
            return
        parents = torch.arange(len(ended), device=ended.device) if kept is None else kept
        if self.copy_of is not None:
            parents = self.copy_of[parents]
        if has_ended:
            parents, tokens = replace_ended(ended, rows_per_input, parents, tokens)
        is_shared = self.can_share and self.copy_of is not None
        groups = find_equal(parents * MOST_TOKENS + tokens, rows_per_input) if is_shared else None
        self.copy_of = None
        if groups is not None:
            first, self.copy_of = groups
            parents, tokens = parents[first], tokens[first]
        self.tokens, self.state = tokens, take_rows(self.state, parents)


def replace_ended(
    ended: Bool[Tensor, " rows"], rows_per_input: int, *values: Int[Tensor, " rows"]
) -> tuple[Int[Tensor, " rows"], ...]:
    """Return values in which rows that have ended are like the first open row of their input, and cost nothing."""
    is_open = ~ended.view(-1, rows_per_input)
    first = is_open.int().argmax(dim=1, keepdim=True)
    chosen = torch.where(is_open, torch.arange(rows_per_input), first)
    rows = (chosen + torch.arange(len(chosen)).unsqueeze(1) * rows_per_input).flatten()
    return tuple(value[rows] for value in values)


def find_equal(
    kinds: Int[Tensor, " rows"], rows_per_input: int
) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " rows"]] | None:
    """Return one row of each kind that an input's rows have, and for each row the place of its kind among them.

    All inputs have as many places as the input of most kinds. The result is None if that saves too few rows.
    """
    rows = kinds.view(-1, rows_per_input)
    kinds, order = rows.sort(dim=1)
    is_new = functional.pad(kinds[:, 1:] != kinds[:, :-1], (1, 0), value=True)
    numbers = is_new.cumsum(dim=1) - 1
    most = int(numbers[:, -1].max()) + 1
    if most > DISTINCT * rows_per_input:
        return None
    places = torch.empty_like(order).scatter_(1, order, numbers)
    first = places.new_zeros(len(rows), most).scatter_(1, numbers, order)  # unused places repeat an input's first row
    inputs = torch.arange(len(rows), device=kinds.device).unsqueeze(1)
    return (first + inputs * rows_per_input).flatten(), (places + inputs * most).flatten()
