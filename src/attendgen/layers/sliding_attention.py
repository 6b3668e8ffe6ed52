"""Attention of a recurrence over its own last states."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.state import AttentionWindow


class SlidingAttention(nn.Module):
    """One head of scaled dot-product attention over the `window` states before each state (Merity 2019, 3.1).

    The weight of slot j belongs to the state `window` - j positions before the query. The query's own state is left
    out, and the context is zero where no state is before it.

    Args:
        hidden: size of the states.
        dim: of queries, keys and values.
        window: number of states before the query.
    """

    def __init__(self, hidden: int, dim: int, window: int) -> None:
        super().__init__()
        self.dim = dim
        self.window = window
        self.qkv = nn.Linear(hidden, 3 * dim)
        self.output = nn.Linear(dim, hidden, bias=False)

    def initial_window(self, batch: int) -> AttentionWindow:
        """Return the window before the first state."""
        weight = self.output.weight
        empty = weight.new_zeros(batch, self.window, self.dim, dtype=torch.float32)
        return AttentionWindow(empty, empty, weight.new_zeros(batch, self.window, dtype=torch.bool))

    def forward(
        self,
        hidden: Float[Tensor, "rows time hidden"],
        window: AttentionWindow,
        mask: Bool[Tensor, "rows time"] | None = None,
    ) -> tuple[Float[Tensor, "rows time hidden"], Float[Tensor, "rows time window"], AttentionWindow]:
        """Return the context of each state, the weights of the states before it, and the window after the last one.

        Args:
            mask: False where there is no state; there is one everywhere unless given.
        """
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        keys = torch.cat([window.keys.to(key.dtype), key], dim=1)  # rows window+time key
        values = torch.cat([window.values.to(value.dtype), value], dim=1)
        real = window.seen.new_ones(hidden.shape[:2]) if mask is None else mask
        seen = torch.cat([window.seen, real], dim=1)
        positions = torch.arange(keys.size(1), device=keys.device)
        now = torch.arange(hidden.size(1), device=keys.device).unsqueeze(1)
        within = (positions >= now) & (positions < now + self.window)  # time window+time
        visible = within & seen.unsqueeze(1)
        scores = (query @ keys.transpose(1, 2)).float() / math.sqrt(self.dim)
        # a finite fill: a row without states before it must give zeros, not NaN
        alpha = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~visible, 0.0)
        context = self.output(alpha.to(values.dtype) @ values)
        slots = now + torch.arange(self.window, device=keys.device)
        alphas = alpha.gather(2, slots.expand(len(hidden), -1, -1))
        start = keys.size(1) - self.window
        return context, alphas, AttentionWindow(keys[:, start:], values[:, start:], seen[:, start:])


def empty_window(like: Float[Tensor, "rows layers hidden"]) -> AttentionWindow:
    """Return the window of a model without attention: tensors of width 0."""
    return AttentionWindow(like[:, :0], like[:, :0], like[:, :0, 0].bool())
