"""Attention by the distance of query and key."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.attention import attend


class DistanceAttention(nn.Module):
    """Score -|q - W k|^2: nearer keys get more weight.

    Args:
        query: size of a query.
        memory: size of an annotation of the memory.
    """

    context_is_weighted_sum = True  # the context is alpha @ memory, which AttendGen computes faster

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()
        self.key_proj = nn.Linear(memory, query, bias=False)

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source query"]:
        """Return what is computed once per memory."""
        return self.key_proj(memory)

    def forward(
        self,
        query: Float[Tensor, "batch target query"],
        keys: Float[Tensor, "batch source query"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch target memory"], Float[Tensor, "batch target source"]]:
        """Return the context of every query, and the attention weights."""
        difference = query.unsqueeze(2) - keys.unsqueeze(1)  # batch target source query
        return attend(-difference.square().sum(dim=-1), memory, mask)
