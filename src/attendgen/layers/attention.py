"""Attention over a memory: dot, scaled dot, general, additive, and the plain mean, with one interface.

Shapes: `batch` memories, each with `source` vectors and read by `query` queries at once (the steps of a target, the
captions of an image, or the hypotheses of a beam). A mask is True where the memory is real. `keys` is called once per
memory; `forward` is then called as often as needed with the same keys.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.additive_kernel import additive_scores
from attendgen.layers.deferred import DeferredSums
from attendgen.layers.state import AttentionPast, Memory
from attendgen.utils.errors import UserError

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}


@runtime_checkable
class Attention(Protocol):
    """The interface of an attention layer.

    The context may be any function of the query and the memory: several heads, a gate, a squashed sum. A layer whose
    context is `alpha @ memory`, with alpha a function of the query, the keys and the mask alone, may declare
    `context_is_weighted_sum = True` in the class that defines its `forward`. Only such a layer can serve hard
    attention, and only its products are reordered to save time: it may then be given a product of the memory.

    See `PastAttention` for layers that use the attention weights of the steps before.
    """

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return the keys that queries are compared with."""

    def __call__(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and the attention weights alpha."""


@runtime_checkable
class ScoringAttention(Attention, Protocol):
    """An attention layer whose context is `alpha @ memory` with alpha = softmax(scores), and which offers the scores.

    Training is faster with such a layer: a decoder computes W q together with its other products of the same state,
    applies the mask, and sums the memory itself.

    Attributes:
        query_weight: W, with which queries are multiplied before `score_keys`; None if it takes them as they are.
    """

    query_weight: Float[Tensor, "key query"] | None

    def score_keys(
        self, query: Float[Tensor, "batch query key"], keys: Float[Tensor, "batch source key"]
    ) -> Float[Tensor, "batch query source"]:
        """Return the scores of queries that were multiplied with `query_weight`."""


class PastAttention(Protocol):
    """The interface of an attention layer that is told where each query's row attended in the steps before.

    Decoders carry the past in their state and compute one step at a time. With hard attention the past holds the
    weights of the sampled locations.

    Attributes:
        uses_past: True.
    """

    uses_past: bool

    def keys(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return the keys that queries are compared with."""

    def __call__(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
        past: AttentionPast,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and the attention weights alpha."""


def uses_past(attention: Any) -> bool:
    """Return whether a layer is called with the attention weights of the steps before."""
    return bool(getattr(attention, "uses_past", False))


def uses_rows(layer: Any) -> bool:
    """Return whether the keys of an attention layer, or of a decoder, depend on the rows of a table."""
    return bool(getattr(layer, "uses_rows", False))


def make_keys(
    attention: Any, values: Float[Tensor, "batch source memory"], rows: Int[Tensor, "batch source"] | None = None
) -> Any:
    """Return the keys of a memory.

    Args:
        rows: the row of a table that each vector belongs to, from 1, and 0 for padding; used by `RowAttention`.
    """
    return attention.keys(values, rows) if uses_rows(attention) else attention.keys(values)


def start_past(attention: Any, memory: Memory) -> AttentionPast | None:
    """Return the past before the first step, zeros; None if the layer does not use it."""
    if not uses_past(attention):
        return None
    values = memory.values
    # sums over many steps need single precision
    zeros = values.new_zeros(values.shape[:2], dtype=torch.promote_types(values.dtype, torch.float))
    return AttentionPast(zeros, zeros)


def extend_past(past: AttentionPast | None, weights: Float[Tensor, "rows source"]) -> AttentionPast | None:
    """Return the past after a step with these attention weights."""
    return None if past is None else AttentionPast(weights.to(past.total.dtype), past.total + weights)


def look_at(
    attention: Any, query: Float[Tensor, "rows time dim"], memory: Memory, past: AttentionPast | None = None
) -> tuple[Float[Tensor, "rows time memory"], Float[Tensor, "rows time source"]]:
    """Return the contexts and alphas of queries; several rows may share one row of the memory.

    Args:
        past: of a layer that uses it; there is one query per row then.
    """
    batch = memory.values.size(0)
    grouped = query.reshape(batch, -1, query.size(-1))  # batch query dim
    more = () if past is None else (AttentionPast(*(part.unflatten(0, (batch, -1)) for part in past)),)
    contexts, alphas = attention(grouped, *memory, *more)
    return contexts.reshape(*query.shape[:2], -1), alphas.reshape(*query.shape[:2], -1)


def has_weighted_sum(attention: Attention) -> bool:
    """Return whether a layer declares that its context is `alpha @ memory`.

    A subclass that defines another `forward` must declare it again. A layer with hooks, or with a `forward` of its own
    instance, declares nothing.
    """
    own = vars(attention)
    if "forward" in own or own.get("_forward_hooks") or own.get("_forward_pre_hooks"):
        return False
    for kind in type(attention).__mro__:
        if "context_is_weighted_sum" in vars(kind):
            return bool(vars(kind)["context_is_weighted_sum"])
        if "forward" in vars(kind) or "__call__" in vars(kind):
            return False
    return False


def has_scores(attention: Attention) -> bool:
    """Return whether a layer also offers its scores, see `ScoringAttention`.

    A subclass that defines another `forward` must define `score_keys`, too.
    """
    if not has_weighted_sum(attention):
        return False
    for kind in type(attention).__mro__:
        if "score_keys" in vars(kind) or "forward" in vars(kind):
            return "score_keys" in vars(kind)
    return False


def can_defer_keys(attention: Any) -> bool:
    """Return whether the scores of a layer are those of `DotAttention`."""
    return isinstance(attention, DotAttention) and type(attention).score_keys is DotAttention.score_keys


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
    half = scores.dtype in (torch.bfloat16, torch.float16)
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
        """W."""
        return self.query_proj.weight

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """Return the context of each query, and alpha."""
        return attend(self.score_keys(self.query_proj(query), keys), memory, mask)

    def score_keys(
        self, query: Float[Tensor, "batch query key"], keys: Float[Tensor, "batch source key"]
    ) -> Float[Tensor, "batch query source"]:
        """Return the scores of W q."""
        if self.fused and self.inner is None:
            vector = self.score.weight.squeeze(0).to(query.dtype)
            return additive_scores(query, keys.to(query.dtype), vector, self.activation)
        activation = ACTIVATIONS[self.activation]
        hidden = activation(query.unsqueeze(2) + keys.to(query.dtype).unsqueeze(1))  # batch query source dim
        if self.inner is not None:
            hidden = activation(self.inner(hidden))
        return self.score(hidden).squeeze(-1)
