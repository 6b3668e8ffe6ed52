"""The interface of attention layers, what a layer declares about itself, and how decoders call it.

Shapes: `batch` memories, each with `source` vectors and read by `query` queries at once (the steps of a target, the
captions of an image, or the hypotheses of a beam). A mask is True where the memory is real. `keys` is called once per
memory; the layer is then called as often as needed with the same keys.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.layers.fast_paths import is_called_plainly, stands_for
from attendgen.layers.state import AttentionPast, Memory


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


def prepare_keys(attention: Any, keys: Any) -> Any:
    """Return keys with which many steps without a gradient take less time.

    A layer may offer them by a method `prepare_keys(keys)`; it is then called with these. A subclass that defines
    another `forward`, `keys` or `score_keys` must define it, too.
    """
    offers = has_weighted_sum(attention) and stands_for(attention, "prepare_keys", "forward", "keys", "score_keys")
    return attention.prepare_keys(keys) if offers else keys


def can_defer_keys(attention: Any) -> bool:
    """Return whether a layer's `defer_keys` returns keys for a loop, see `DotAttention`."""
    return has_weighted_sum(attention) and stands_for(attention, "defer_keys", "forward", "score_keys")


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
    holds = stands_for(attention, "context_is_weighted_sum", "forward", "__call__") and is_called_plainly(attention)
    return holds and bool(getattr(attention, "context_is_weighted_sum", False))


def has_scores(attention: Attention) -> bool:
    """Return whether a layer also offers its scores, see `ScoringAttention`.

    A subclass that defines another `forward` must define `query_weight` and `score_keys`, too, if it still attends with
    the softmax of its scores.
    """
    offers = all(stands_for(attention, name, "forward") for name in ("query_weight", "score_keys"))
    return offers and has_weighted_sum(attention) and hasattr(attention, "query_weight")


def score_queries(
    attention: Any, query: Float[Tensor, "batch query dim"], keys: Any
) -> Float[Tensor, "batch query source"]:
    """Return the scores of an attention layer that offers them; its `query_proj` may be any module."""
    if not hasattr(attention, "query_weight"):
        return attention.score_keys(attention.query_proj(query), keys)
    weight = attention.query_weight
    return attention.score_keys(query if weight is None else functional.linear(query, weight), keys)
