"""Attention of a recurrence over its own past, within a window that slides along with it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Past(NamedTuple):
    """What stood in the `reach` places before the next one, oldest first; `seen` is False before the beginning."""

    keys: Float[Tensor, "rows reach key"]
    values: Float[Tensor, "rows reach key"]
    seen: Bool[Tensor, "rows reach"]


class ReaderState(NamedTuple):
    """State of an LSTM, what its attention may look at (see `Past`), and the symbols before the next one.

    What the model does not look at has no width.
    """

    hidden: Float[Tensor, "rows layers hidden"]
    cell: Float[Tensor, "rows layers hidden"]
    keys: Float[Tensor, "rows reach key"]
    values: Float[Tensor, "rows reach key"]
    seen: Bool[Tensor, "rows reach"]
    recent: Int[Tensor, "rows recent"]

    @property
    def past(self) -> Past:
        """What the attention may look at."""
        return Past(self.keys, self.values, self.seen)


class PastAttention(nn.Module):
    """One head of scaled dot-product attention over the `reach` states before each state (Merity 2019, 3.1).

    The weight of slot j belongs to the state `reach` - j places before the query; the query's own is left out, and
    where there is no past at all the context is zero.

    Args:
        hidden: size of the states.
        dim: of queries, keys and values.
        reach: how many states back it looks.
    """

    def __init__(self, hidden: int, dim: int, reach: int) -> None:
        super().__init__()
        self.dim = dim
        self.reach = reach
        self.project = nn.Linear(hidden, 3 * dim)
        self.output = nn.Linear(dim, hidden, bias=False)

    def blank(self, rows: int) -> Past:
        """No past."""
        weight = self.output.weight
        empty = weight.new_zeros(rows, self.reach, self.dim, dtype=torch.float32)
        return Past(empty, empty, weight.new_zeros(rows, self.reach, dtype=torch.bool))

    def forward(
        self, hidden: Float[Tensor, "rows time hidden"], past: Past
    ) -> tuple[Float[Tensor, "rows time hidden"], Float[Tensor, "rows time reach"], Past]:
        """The context of each state, the weights of the places before it, and the past after the last one."""
        query, key, value = self.project(hidden).chunk(3, dim=-1)
        keys = torch.cat([past.keys.to(key.dtype), key], dim=1)  # rows reach+time key
        values = torch.cat([past.values.to(value.dtype), value], dim=1)
        seen = torch.cat([past.seen, past.seen.new_ones(hidden.shape[:2])], dim=1)
        places = torch.arange(keys.size(1), device=keys.device)
        now = torch.arange(hidden.size(1), device=keys.device).unsqueeze(1)
        within = (places >= now) & (places < now + self.reach)  # time reach+time
        mask = within & seen.unsqueeze(1)
        scores = (query @ keys.transpose(1, 2)).float() / math.sqrt(self.dim)
        # a finite fill: a row with no past must give zeros, not NaN
        alpha = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)
        context = self.output(alpha.to(values.dtype) @ values)
        slots = now + torch.arange(self.reach, device=keys.device)
        alphas = alpha.gather(2, slots.expand(len(hidden), -1, -1))
        start = keys.size(1) - self.reach
        return context, alphas, Past(keys[:, start:], values[:, start:], seen[:, start:])


def blank_past(attention: PastAttention | None, like: Float[Tensor, "rows layers hidden"]) -> Past:
    """No past, of no width at all where nothing attends to it."""
    if attention is not None:
        return attention.blank(len(like))
    return Past(like[:, :0], like[:, :0], like[:, :0, 0].bool())
