"""The fast path of additive attention's scores: v . f(q + k) without keeping f(q + k)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attendgen.layers.devices import is_on_gpu

CACHED = 2**20  # numbers that fit into a processor's cache


def additive_scores(query: Tensor, keys: Tensor, vector: Tensor, activation: str) -> Tensor:
    """Return v . f(q + k) for every query and key: batch, query, source.

    On a CPU and for tanh, the result differs from the equation by a constant per query, which cancels in the softmax.

    Args:
        query, keys: [batch, query, dim] and [batch, source, dim].
        vector: v, [dim].
        activation: f, "tanh" or "relu".
    """
    scores = _ScoresOnGPU if is_on_gpu(keys) else _Scores
    return scores.apply(query, keys, vector, activation)


class _Scores(torch.autograd.Function):
    """Scores and their gradient, computed a few inputs at a time.

    f(q + k) has batch x query x source x dim numbers. On a CPU a few inputs at a time stay within the cache, and f is
    computed again for the gradient instead of being kept. PyTorch's tanh takes six times as long as its sigmoid on a
    CPU, so v . tanh(x) = 2 v . sigmoid(2 x) - v . 1 is used.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor, activation: str) -> Tensor:
        scale = 2 if activation == "tanh" else 1
        query, keys, vector = scale * query, scale * keys, scale * vector
        ctx.save_for_backward(query, keys, vector)
        ctx.activation, ctx.scale = activation, scale
        scores = query.new_empty(*query.shape[:2], keys.size(1))
        for part in _split_inputs(query, keys):
            scores[part] = _activate(query[part], keys[part], activation) @ vector
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, vector = ctx.saved_tensors
        to_query, to_keys, to_vector = torch.empty_like(query), torch.empty_like(keys), torch.zeros_like(vector)
        for part in _split_inputs(query, keys):
            hidden = _activate(query[part], keys[part], ctx.activation)
            to_vector += gradient[part].flatten() @ hidden.flatten(0, 2)
            slope = (hidden > 0).to(hidden) if ctx.activation == "relu" else hidden.addcmul_(hidden, hidden, value=-1)
            slope = slope.mul_(gradient[part].unsqueeze(-1))
            to_query[part], to_keys[part] = slope.sum(dim=2), slope.sum(dim=1)
        vector = ctx.scale * vector
        return to_query * vector, to_keys * vector, ctx.scale * to_vector, None


class _ScoresOnGPU(torch.autograd.Function):
    """Scores and their gradient in as few operations as possible; f(q + k) is computed again for the gradient."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(query, keys, vector)
        ctx.activation = activation
        return _combine(query, keys, activation) @ vector

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, vector = ctx.saved_tensors
        hidden = _combine(query, keys, ctx.activation)
        to_vector = gradient.flatten() @ hidden.flatten(0, 2)
        slope = gradient.unsqueeze(-1) * vector  # batch query source dim
        if ctx.activation == "relu":
            slope = torch.ops.aten.threshold_backward(slope, hidden, 0)
        else:
            slope = torch.ops.aten.tanh_backward(slope, hidden)
        return slope.sum(dim=2), slope.sum(dim=1), to_vector, None


def _combine(query: Tensor, keys: Tensor, activation: str) -> Tensor:
    """Return f(q + k): inputs, query, source, dim."""
    total = query.unsqueeze(2) + keys.unsqueeze(1)
    return total.relu_() if activation == "relu" else total.tanh_()


def _activate(query: Tensor, keys: Tensor, activation: str) -> Tensor:
    """Return relu(q + k) or sigmoid(q + k): inputs, query, source, dim."""
    total = query.unsqueeze(2) + keys.unsqueeze(1)
    return total.relu_() if activation == "relu" else total.sigmoid_()


def _split_inputs(query: Tensor, keys: Tensor) -> list[slice]:
    """Return the inputs whose scores are computed together."""
    step = max(1, CACHED // (query.size(1) * keys[0].numel()))
    return [slice(start, start + step) for start in range(0, len(keys), step)]
