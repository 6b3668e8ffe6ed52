"""Attention with several heads."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.attention import attend
from attendgen.layers.half_precision import get_weight
from attendgen.utils.errors import UserError


class MultiHeadAttention(nn.Module):
    """concat(head_1, ..., head_h) W_o, where head_i attends by scaled dot product (Vaswani et al. 2017, 3.2.2).

    The attention weights that are reported are the mean over the heads.

    Args:
        query, memory: sizes of the query and of the memory's vectors.
        heads: their number.
        dim: of all heads together; the query's size unless given.

    Raises:
        UserError: the heads do not divide `dim`.
    """

    def __init__(self, query: int, memory: int, heads: int = 4, dim: int | None = None) -> None:
        super().__init__()
        dim = dim or query
        if heads < 1 or dim % heads:
            raise UserError(
                f"model.attention.heads={heads}: expected a divisor of {dim}, the size of all heads together"
            )
        self.heads = heads
        self.query_proj = nn.Linear(query, dim)
        self.key_proj = nn.Linear(memory, dim)
        self.value_proj = nn.Linear(memory, dim)
        self.output = nn.Linear(dim, memory)

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source keyvalue"]:
        """Return the keys and the values of all heads."""
        return torch.cat([self.key_proj(memory), self.value_proj(memory)], dim=-1)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source keyvalue"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and the mean of the heads' alphas."""
        keys, values = keys.chunk(2, dim=-1)
        split = [self._split_heads(part) for part in (self.query_proj(query).to(keys.dtype), keys, values)]
        scores = split[0] @ split[1].transpose(1, 2) / math.sqrt(split[0].size(-1))
        each = None if mask is None else mask.repeat_interleave(self.heads, dim=0)
        contexts, alphas = attend(scores, split[2], each)
        joined = contexts.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)  # batch query dim
        return self.output(joined.to(get_weight(self.output).dtype)), alphas.unflatten(0, (-1, self.heads)).mean(dim=1)

    def _split_heads(self, vectors: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch_heads length head"]:
        """Put the heads beside the batch."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)
