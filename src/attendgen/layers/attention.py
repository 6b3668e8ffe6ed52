"""Attention over a memory: dot, scaled dot, general, additive and no scores at all, behind one interface.

Shapes: `batch` memories, each with `source` vectors and asked by `query` queries at once (the steps of a target, the
captions of a picture, or the hypotheses of a beam). A mask is True where the memory is real. `project` turns the
memory into keys once; `forward` is then called as often as needed with the same keys.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attendgen.errors import UserError

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"tanh": torch.tanh, "relu": torch.relu}
CACHED = 2**20  # numbers that a processor's cache holds


@runtime_checkable
class Attention(Protocol):
    """What decoders ask of an attention layer.

    The context may be any function of the query and the memory: several heads, a gate, a squashed sum. A layer whose
    context is `alpha @ memory`, with an alpha of the query, the keys and the mask alone, may declare
    `context_is_weighted_sum = True` in the class that defines its `forward`. Only such a layer can serve hard
    attention, and only its products are reordered to save time: it may then be given a product of the memory.
    """

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """The keys that queries are compared with."""

    def __call__(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: Float[Tensor, "batch source key"],
        memory: Float[Tensor, "batch source memory"],
        mask: Bool[Tensor, "batch source"] | None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
        """The context of each query, and the attention weights alpha."""


def has_weighted_sum(attention: Attention) -> bool:
    """Return whether a layer declares that its context is `alpha @ memory`.

    A subclass that defines another `forward` must declare it anew. Nothing holds for a layer with hooks, or with a
    `forward` of its own instance.
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


def attend(
    scores: Float[Tensor, "batch query source"],
    memory: Float[Tensor, "batch source memory"],
    mask: Bool[Tensor, "batch source"] | None,
) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query source"]]:
    """alpha = softmax(scores) over the real positions, context = alpha memory; zeros where no position is real.

    The softmax is taken in single precision, whatever the scores come in.
    """
    kind = scores.dtype
    scores = scores.float() if kind in (torch.bfloat16, torch.float16) else scores
    if mask is not None:
        mask = mask.unsqueeze(1)
        # a finite fill: a row with no real position must give zeros, not NaN
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    alpha = scores.softmax(dim=-1)
    if mask is not None:
        alpha = alpha.masked_fill(~mask, 0.0)
    return alpha.to(kind) @ memory.to(kind), alpha


class Mean(nn.Module):
    """No attention: every real position weighs the same, whatever is asked."""

    context_is_weighted_sum = True

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

    context_is_weighted_sum = True

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
        query = query.to(keys.dtype)  # weights may be in half precision, and a search's memory in single
        return attend(query @ keys.transpose(1, 2) * self.scale, memory, mask)


class General(Dot):
    """score(q, k) = q . (W k), for memories of any size (Luong et al. 2015, 3.1)."""

    def __init__(self, query: int, memory: int, scaled: bool = False) -> None:
        super().__init__(query, query, scaled)
        self.map = nn.Linear(memory, query, bias=False)

    def project(self, memory: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source dim"]:
        return self.map(memory)


class _AdditiveScores(torch.autograd.Function):
    """v . f(q + k) of every query and key, and its gradient; of tanh but for a constant, which cancels in the softmax.

    f(q + k) is as large as all keys times all queries: on a CPU a few inputs at a time stay within its cache, and it is
    computed again for the gradient, not kept. PyTorch's tanh takes six times as long as its sigmoid on a CPU:
    v . tanh(x) = 2 v . sigmoid(2 x) - v . 1.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor, activation: str) -> Tensor:
        scale = 2 if activation == "tanh" else 1
        query, keys, vector = scale * query, scale * keys, scale * vector
        ctx.save_for_backward(query, keys, vector)
        ctx.activation, ctx.scale = activation, scale
        scores = query.new_empty(*query.shape[:2], keys.size(1))
        for part in _parts(query, keys):
            scores[part] = _hidden(query[part], keys[part], activation) @ vector
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, vector = ctx.saved_tensors
        to_query, to_keys, to_vector = torch.empty_like(query), torch.empty_like(keys), torch.zeros_like(vector)
        for part in _parts(query, keys):
            hidden = _hidden(query[part], keys[part], ctx.activation)
            to_vector += gradient[part].flatten() @ hidden.flatten(0, 2)
            slope = (hidden > 0).to(hidden) if ctx.activation == "relu" else hidden.addcmul_(hidden, hidden, value=-1)
            slope = slope.mul_(gradient[part].unsqueeze(-1))
            to_query[part], to_keys[part] = slope.sum(dim=2), slope.sum(dim=1)
        vector = ctx.scale * vector
        return to_query * vector, to_keys * vector, ctx.scale * to_vector, None


def _hidden(query: Tensor, keys: Tensor, activation: str) -> Tensor:
    """relu(q + k) or sigmoid(q + k); inputs, query, source, key."""
    total = query.unsqueeze(2) + keys.unsqueeze(1)
    return total.relu_() if activation == "relu" else total.sigmoid_()


def _parts(query: Tensor, keys: Tensor) -> list[slice]:
    """The inputs that are scored together."""
    step = len(keys) if keys.is_cuda else max(1, CACHED // (query.size(1) * keys[0].numel()))
    return [slice(start, start + step) for start in range(0, len(keys), step)]


class Additive(nn.Module):
    """score(q, k) = v . f(W q + U k) with f = tanh (Bahdanau et al. 2015, A.1.2), or with one more layer within f.

    Args:
        dim: numbers that f is taken of; null: as many as the query has.
        activation: f, "tanh" or "relu".
        layers: 2 scores f(V f(W q + U k)) instead.

    Raises:
        UserError: there is no such activation or number of layers.
    """

    context_is_weighted_sum = True

    def __init__(
        self, query: int, memory: int, dim: int | None = None, activation: str = "tanh", layers: int = 1
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"model.attention.activation={activation}: unknown; choose {' or '.join(ACTIVATIONS)}")
        if layers not in (1, 2):
            raise UserError(f"model.attention.layers={layers}: a scorer has 1 or 2")
        dim = dim or query
        self.activation = activation
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
        query = self.query(query)
        if self.inner is None:
            vector = self.score.weight.squeeze(0).to(query.dtype)
            return attend(_AdditiveScores.apply(query, keys.to(query.dtype), vector, self.activation), memory, mask)
        activation = ACTIVATIONS[self.activation]
        hidden = activation(query.unsqueeze(2) + keys.unsqueeze(1))  # batch query source key
        return attend(self.score(activation(self.inner(hidden))).squeeze(-1), memory, mask)
