"""Attention over a memory: dot, scaled dot, general, additive and no scores at all, behind one interface.

Shapes: `batch` memories, each with `source` vectors and asked by `query` queries at once (the steps of a target, the
captions of a picture, or the hypotheses of a beam). A mask is True where the memory is real. `project` turns the
memory into keys once; `forward` is then called as often as needed with the same keys.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.errors import UserError

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@runtime_checkable
class Attention(Protocol):
    """What decoders ask of an attention layer."""

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """The keys that queries are compared with."""

    def __call__(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """The context (expected memory vector) of each query, and the attention weights alpha."""


def attend(
    scores: Float[Tensor, "batch query source"],
    memory: Float[Tensor, "batch source memory"],
    mask: Bool[Tensor, "batch source"] | None,
) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
    """alpha = softmax(scores) over the real positions, context = alpha memory; zeros where no position is real."""
    if mask is not None:
        mask = mask.unsqueeze(1)
        # a finite fill: a row with no real position must give zeros, not NaN
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    alpha = scores.softmax(dim=-1)
    if mask is not None:
        alpha = alpha.masked_fill(~mask, 0.0)
    return alpha @ memory.to(alpha.dtype), alpha


class Mean(nn.Module):
    """No attention: every real position weighs the same, whatever is asked."""

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        return memory[..., :1]

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        return attend(keys.new_zeros(*query.shape[:2], keys.size(1)), memory, mask)


class Dot(nn.Module):
    """score(q, k) = q . k (Luong et al. 2015, 3.1), divided by sqrt(dim) if `scaled` (Vaswani et al. 2017, 3.2.1)."""

    def __init__(self, query: int, memory: int, scaled: bool = False) -> None:
        super().__init__()
        if query != memory:
            raise UserError(
                f"model.attention: dot-product attention needs equal sizes, but the query has {query} and the memory "
                f"{memory}; use attendgen.layers.attention.General"
            )
        self.scale = 1 / math.sqrt(query) if scaled else 1.0

    def project(self, memory: Float[Tensor, "batch source dim"]) -> Float[Tensor, "batch source dim"]:
        return memory

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source dim"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        return attend(query @ keys.transpose(1, 2) * self.scale, memory, mask)


class General(Dot):
    """score(q, k) = q . (W k), for memories of any size (Luong et al. 2015, 3.1)."""

    def __init__(self, query: int, memory: int, scaled: bool = False) -> None:
        super().__init__(query, query, scaled)
        self.map = nn.Linear(memory, query, bias=False)

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source dim"]:
        return self.map(memory)


class Additive(nn.Module):
    """score(q, k) = v . f(W q + U k) with f = tanh (Bahdanau et al. 2015, A.1.2), or with one more layer within f.

    Args:
        activation: f, "tanh" or "relu".
        layers: 2 scores f(V f(W q + U k)) instead.

    Raises:
        UserError: there is no such activation or number of layers.
    """

    def __init__(self, query: int, memory: int, dim: int = 512, activation: str = "tanh", layers: int = 1) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"model.attention.activation={activation}: unknown; choose {' or '.join(ACTIVATIONS)}")
        if layers not in (1, 2):
            raise UserError(f"model.attention.layers={layers}: a scorer has 1 or 2")
        self.activation = ACTIVATIONS[activation]
        self.inner = nn.Linear(dim, dim) if layers == 2 else None
        self.map = nn.Linear(memory, dim)
        self.query = nn.Linear(query, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would cancel in the softmax

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        return self.map(memory)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        hidden = self.activation(self.query(query).unsqueeze(2) + keys.unsqueeze(1))  # batch query source key
        if self.inner is not None:
            hidden = self.activation(self.inner(hidden))
        return attend(self.score(hidden).squeeze(-1), memory, mask)
