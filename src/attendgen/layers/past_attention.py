"""Additive attention that sees where it attended before: location-sensitive and coverage attention."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.attention import attend
from attendgen.layers.state import AttentionPast
from attendgen.utils.errors import UserError


class LocationSensitiveAttention(nn.Module):
    """score = w . tanh(W q + V k + U f + b), where f = F * alpha_{t-1} is a convolution (Chorowski et al. 2015, 2.1).

    Args:
        query, memory: sizes of the query and of the memory's vectors.
        dim: size of W q; the query's size unless given.
        filters, width: number and odd width of the filters F.
        cumulative: convolve the sum of all earlier alphas instead (as Shen et al. 2018, 2.2).

    Raises:
        UserError: the width is even.
    """

    context_is_weighted_sum = True
    uses_past = True

    def __init__(
        self,
        query: int,
        memory: int,
        dim: int | None = None,
        filters: int = 10,
        width: int = 15,
        cumulative: bool = False,
    ) -> None:
        super().__init__()
        if width < 1 or width % 2 == 0:
            raise UserError(f"model.attention.width={width}: expected an odd number above 0")
        dim = dim or query
        self.cumulative = cumulative
        self.key_proj = nn.Linear(memory, dim)
        self.query_proj = nn.Linear(query, dim, bias=False)
        self.filters = nn.Conv1d(1, filters, width, padding=width // 2, bias=False)
        self.location_proj = nn.Linear(filters, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return V k + b."""
        return self.key_proj(memory)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
        past: AttentionPast,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and alpha."""
        before = (past.total if self.cumulative else past.last).to(query.dtype)
        located = self.filters(before.flatten(0, 1).unsqueeze(1)).transpose(1, 2)  # batch*query source filters
        location = self.location_proj(located).unflatten(0, before.shape[:2])
        hidden = torch.tanh(self.query_proj(query).unsqueeze(2) + keys.to(query.dtype).unsqueeze(1) + location)
        return attend(self.score(hidden).squeeze(-1), memory, mask)


class CoverageAttention(nn.Module):
    """score = v . tanh(W_h k + W_s q + w_c c + b), where c is the sum of all earlier alphas (See et al. 2017, 11).

    `attendgen.losses.coverage_loss` is the paper's penalty of repeated attention.

    Args:
        query, memory: sizes of the query and of the memory's vectors.
        dim: size of W_s q; the query's size unless given.
    """

    context_is_weighted_sum = True
    uses_past = True

    def __init__(self, query: int, memory: int, dim: int | None = None) -> None:
        super().__init__()
        dim = dim or query
        self.key_proj = nn.Linear(memory, dim)
        self.query_proj = nn.Linear(query, dim, bias=False)
        self.coverage = nn.Linear(1, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return W_h k + b."""
        return self.key_proj(memory)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
        past: AttentionPast,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and alpha."""
        covered = self.coverage(past.total.to(query.dtype).unsqueeze(-1))
        hidden = torch.tanh(self.query_proj(query).unsqueeze(2) + keys.to(query.dtype).unsqueeze(1) + covered)
        return attend(self.score(hidden).squeeze(-1), memory, mask)
