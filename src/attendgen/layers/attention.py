"""Attention over a memory: dot, scaled dot, general, additive, and the plain mean.

For the shapes see `attendgen.layers.attention_protocol`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.additive_kernel import ExponentialKeys, additive_scores, prepare_keys, score_prepared
from attendgen.layers.deferred import DeferredSums
from attendgen.layers.fast_paths import are_products
from attendgen.layers.half_precision import is_half
from attendgen.utils.errors import UserError

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}


class Padding(NamedTuple):
    """Where a memory is not real, made once for all steps of a loop.

    Attributes:
        where: True where it is not real.
        bias: added to scores: zero where it is real.
    """

    where: Bool[Tensor, "batch 1 source"]
    bias: Float[Tensor, "batch 1 source"]

    @classmethod
    def make(cls, mask: Bool[Tensor, "batch source"] | None) -> "Padding | None":
        """Return the padding of a mask; None if all of the memory is real."""
        if mask is None:
            return None
        where = ~mask.unsqueeze(1)
        # half of the least number: its sum with a score is finite
        least = torch.finfo(torch.float).min / 2
        return cls(where, torch.zeros(where.shape, device=where.device).masked_fill(where, least))


def weigh_scores(
    scores: Float[Tensor, "batch query source"], mask: Bool[Tensor, "batch source"] | Padding | None
) -> Float[Tensor, "batch query source"]:
    """Return alpha = softmax(scores) over the real positions; zeros where no position is real.

    The softmax is computed in single precision, and alpha has it.
    """
    half = is_half(scores)
    if mask is None:
        return scores.softmax(dim=-1, dtype=torch.float if half else None)
    if isinstance(mask, Padding):  # the sum with the bias is in single precision
        return (scores + mask.bias).softmax(dim=-1).masked_fill(mask.where, 0.0)
    scores = scores.float() if half else scores  # before the fill, which float16 cannot hold
    padding = ~mask.unsqueeze(1)
    # a finite fill: a row with no real position must give zeros, not NaN
    alpha = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return alpha.masked_fill(padding, 0.0)


def attend(
    scores: Float[Tensor, "batch query source"],
    memory: Float[Tensor, "batch source memory"],
    mask: Bool[Tensor, "batch source"] | None,
) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
    """Return alpha @ memory and alpha, see `weigh_scores`."""
    alpha = weigh_scores(scores, mask)
    return alpha.to(scores.dtype) @ memory.to(scores.dtype), alpha


class MeanAttention(nn.Module):
    """No attention: every real position has the same weight."""

    context_is_weighted_sum = True
    query_weight: None = None

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return keys of width 1, which are not used."""
        return memory[..., :1]

    def score_keys(
        self, query: Float[Tensor, "batch query dim"], keys: Float[Tensor, "batch source key"]
    ) -> Float[Tensor, "batch query source"]:
        """Return equal scores."""
        return keys.new_zeros(*query.shape[:2], keys.size(1))

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the mean of the real memory vectors, and equal weights."""
        return attend(self.score_keys(query, keys), memory, mask)


class DotAttention(nn.Module):
    """score(q, k) = q . k (Luong et al. 2015, 3.1), divided by sqrt(dim) if `scaled` (Vaswani et al. 2017, 3.2.1).

    Raises:
        UserError: the query and the memory differ in size.
    """

    context_is_weighted_sum = True
    query_weight: None = None

    def __init__(self, query: int, memory: int, scaled: bool = False) -> None:
        super().__init__()
        if query != memory:
            raise UserError(
                f"model.attention: dot-product attention needs equal sizes, but the query has {query} and the memory "
                f"{memory}; use model/attention=general"
            )
        self.scale = 1 / math.sqrt(query) if scaled else 1.0

    def keys(self, memory: Float[Tensor, "batch source dim"]) -> Float[Tensor, "batch source dim"]:
        """Return the memory itself."""
        return memory

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source dim"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and alpha."""
        return attend(self.score_keys(query, keys), memory, mask)

    def score_keys(
        self, query: Float[Tensor, "batch query dim"], keys: Float[Tensor, "batch source dim"] | DeferredSums
    ) -> Float[Tensor, "batch query source"]:
        """Return the scores; the keys may be those of a loop, see `defer_keys`."""
        query = query.to(keys.dtype)  # weights may be in half precision, and a decoding's memory in single
        if self.scale != 1:
            query = query * self.scale  # the smaller factor, before half precision rounds large scores
        return keys.add_up(query) if isinstance(keys, DeferredSums) else query @ keys.transpose(1, 2)

    def defer_keys(self, keys: Float[Tensor, "batch source dim"], rows: int, time: int) -> DeferredSums:
        """Return keys for a loop of so many steps, with each of which `score_keys` is called once."""
        return DeferredSums(keys.transpose(1, 2), rows, time)


class GeneralAttention(DotAttention):
    """score(q, k) = q . (W k), for memories of any size (Luong et al. 2015, 3.1)."""

    def __init__(self, query: int, memory: int, scaled: bool = False) -> None:
        super().__init__(query, query, scaled)
        self.key_proj = nn.Linear(memory, query, bias=False)

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source dim"]:
        """Return W k."""
        return self.key_proj(memory)


class AdditiveAttention(nn.Module):
    """score(q, k) = v . f(W q + U k) with f = tanh (Bahdanau et al. 2015, A.1.2), or with one more layer within f.

    Args:
        dim: size of W q; the query's size unless given.
        activation: f, "tanh" or "relu".
        layers: 2 scores f(V f(W q + U k)) instead.
        fused: compute the scores of one layer by the fast path of `additive_kernel`; false follows the equation.

    Raises:
        UserError: there is no such activation or number of layers.
    """

    context_is_weighted_sum = True

    def __init__(
        self,
        query: int,
        memory: int,
        dim: int | None = None,
        activation: str = "tanh",
        layers: int = 1,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"model.attention.activation={activation}: unknown; choose {' or '.join(ACTIVATIONS)}")
        if layers not in (1, 2):
            raise UserError(f"model.attention.layers={layers}: expected 1 or 2")
        dim = dim or query
        self.activation = activation
        self.fused = fused
        self.inner = nn.Linear(dim, dim) if layers == 2 else None
        self.key_proj = nn.Linear(memory, dim)
        self.query_proj = nn.Linear(query, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return U k."""
        return self.key_proj(memory)

    @property
    def query_weight(self) -> Float[Tensor, "key query"]:
        """W; there is none if another kind of layer has taken the place of `query_proj`."""
        if are_products([self.query_proj]):
            return self.query_proj.weight
        raise AttributeError("query_weight")

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"] | ExponentialKeys,
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and alpha."""
        return attend(self.score_keys(self.query_proj(query), keys), memory, mask)

    def prepare_keys(
        self, keys: Float[Tensor, "batch source key"]
    ) -> Float[Tensor, "batch source key"] | ExponentialKeys:
        """Return keys for many steps without a gradient, see `attention_protocol.prepare_keys`."""
        prepared = prepare_keys(keys) if self._is_fused() and self.activation == "tanh" else None
        return keys if prepared is None else prepared

    def score_keys(
        self, query: Float[Tensor, "batch query key"], keys: Float[Tensor, "batch source key"] | ExponentialKeys
    ) -> Float[Tensor, "batch query source"]:
        """Return the scores of W q; the keys may be those of `prepare_keys`."""
        if isinstance(keys, ExponentialKeys):
            return score_prepared(query, keys, self.score.weight.squeeze(0))
        if self._is_fused():
            vector = self.score.weight.squeeze(0).to(query.dtype)
            return additive_scores(query, keys.to(query.dtype), vector, self.activation)
        activation = ACTIVATIONS[self.activation]
        hidden = activation(query.unsqueeze(2) + keys.to(query.dtype).unsqueeze(1))  # batch query source dim
        if self.inner is not None:
            hidden = activation(self.inner(hidden))
        return self.score(hidden).squeeze(-1)

    def _is_fused(self) -> bool:
        """Return whether the scores are v . f(W q + U k), so that the fast path may compute them."""
        return self.fused and self.inner is None and are_products([self.score])
