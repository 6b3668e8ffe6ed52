"""The fast path of additive attention's scores: v . f(q + k) without keeping f(q + k)."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from attendgen.layers.devices import is_on_gpu
from attendgen.layers.half_precision import widen

CACHED = 2**20  # numbers that fit into a processor's cache
LARGEST_POWER = 80.0  # e^80 is a number of single precision
LARGEST_KEY = 65.0
LARGEST_QUERY = 85.0  # with the largest key of the other sign sigmoid(q + k) is still 0 or 1 in single precision
MANY_QUERIES = 8  # of an input


class ExponentialKeys(NamedTuple):
    """Keys of decoding on a CPU, where the same ones are scored at each step: e^(-2 k), in single precision."""

    values: Float[Tensor, "batch source key"]


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


def prepare_keys(keys: Float[Tensor, "batch source key"]) -> ExponentialKeys | None:
    """Return keys for many calls of `score_prepared`.

    None if they are on a GPU, in double precision, or too large, or if there are none or they have a gradient.
    """
    if is_on_gpu(keys) or keys.requires_grad or keys.dtype == torch.double or not keys.numel():
        return None
    keys = widen(keys) * 2
    return ExponentialKeys(keys.neg_().exp_()) if bool(keys.abs().max() <= LARGEST_KEY) else None


def score_prepared(query: Tensor, keys: ExponentialKeys, vector: Tensor) -> Tensor:
    """Return v . tanh(q + k) less a constant per query, see `additive_scores`; without a gradient.

    tanh(q + k) = 2 / (1 + e^(-2 q) e^(-2 k)) - 1 takes one exponential per query.
    """
    exponentials = (widen(query) * -2).clamp_(-LARGEST_QUERY, LARGEST_QUERY).exp_()
    scores = exponentials.new_empty(*query.shape[:2], keys.values.size(1))
    vector = 2 * widen(vector)
    for inputs, queries, hidden in _combine_parts(exponentials, keys.values, _invert_product):
        scores[inputs, queries] = _multiply(hidden, vector)
    return scores.to(query.dtype)


class _Scores(torch.autograd.Function):
    """Scores and their gradient, computed a few inputs or queries at a time.

    A CPU computes them faster in single than in half precision.

    f(q + k) has batch x query x source x dim numbers. On a CPU a few of them at a time stay within the cache, and f is
    computed again for the gradient instead of being kept. PyTorch's tanh takes six times as long as its sigmoid on a
    CPU, so v . tanh(x) = 2 v . sigmoid(2 x) - v . 1 is used.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor, activation: str) -> Tensor:
        dtype = query.dtype
        query, keys, vector = (widen(part) * (2 if activation == "tanh" else 1) for part in (query, keys, vector))
        ctx.save_for_backward(query, keys, vector)
        ctx.activation, ctx.dtype = activation, dtype
        scores = query.new_empty(*query.shape[:2], keys.size(1))
        for inputs, queries, hidden in _iterate_parts(query, keys, activation):
            scores[inputs, queries] = _multiply(hidden, vector)
        return scores.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, keys, vector = ctx.saved_tensors
        gradient = widen(gradient)
        to_query, to_keys, to_vector = torch.empty_like(query), torch.zeros_like(keys), torch.zeros_like(vector)
        for inputs, queries, hidden in _iterate_parts(query, keys, ctx.activation):
            given = gradient[inputs, queries]
            to_vector += torch.mv(hidden.flatten(0, 2).T, given.flatten())
            slope = hidden.sign_() if ctx.activation == "relu" else hidden.addcmul_(hidden, hidden, value=-1)
            slope = slope.mul_(given.unsqueeze(-1))
            to_query[inputs, queries] = slope.sum(dim=2)
            to_keys[inputs] += slope.sum(dim=1)
        scale = 2 if ctx.activation == "tanh" else 1
        vector = scale * vector
        to_query, to_keys, to_vector = to_query * vector, to_keys * vector, scale * to_vector
        return to_query.to(ctx.dtype), to_keys.to(ctx.dtype), to_vector.to(ctx.dtype), None


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


def _iterate_parts(query: Tensor, keys: Tensor, activation: str) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield inputs, queries, and their relu(q + k) or sigmoid(q + k), see `_combine_parts`.

    sigmoid(q + k) = 1 / (1 + e^-q e^-k) takes one exponential for each query and key, and none for each pair. With few
    queries that saves nothing.
    """
    if activation == "relu":
        combine = _add_relu
    elif query.size(1) >= MANY_QUERIES and bool(query.abs().max() + keys.abs().max() <= LARGEST_POWER):
        query, keys, combine = query.neg().exp_(), keys.neg().exp_(), _invert_product
    else:
        combine = _add_sigmoid
    return _combine_parts(query, keys, combine)


def _combine_parts(
    query: Tensor, keys: Tensor, combine: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield inputs, queries, and what a function makes of these and the keys, in memory that is written to again."""
    batch, number, _ = query.shape
    at_once = min(number, max(1, CACHED // keys[0].numel()))
    step = max(1, CACHED // (at_once * keys[0].numel()))
    memory = query.new_empty(min(step, batch) * at_once * keys[0].numel())
    for start in range(0, batch, step):
        inputs = slice(start, start + step)
        for first in range(0, number, at_once):
            queries = slice(first, first + at_once)
            pair = query[inputs, queries].unsqueeze(2), keys[inputs].unsqueeze(1)
            shape = (*pair[0].shape[:2], *keys.shape[1:])
            yield inputs, queries, combine(*pair, memory[: math.prod(shape)].view(shape))


def _multiply(hidden: Tensor, vector: Tensor) -> Tensor:
    """Return the products of hidden, [inputs, query, source, dim], and v.

    As one product of a matrix and a vector they are computed by one thread.
    """
    rows = hidden.flatten(1, 2) if len(hidden) > 1 else hidden[0]
    return torch.bmm(vector.expand(len(rows), 1, -1), rows.transpose(1, 2)).view(hidden.shape[:3])


def _add_relu(query: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
    return torch.add(query, keys, out=memory).relu_()


def _add_sigmoid(query: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
    return torch.add(query, keys, out=memory).sigmoid_()


def _invert_product(query: Tensor, keys: Tensor, memory: Tensor) -> Tensor:
    """Return 1 / (1 + q k)."""
    return torch.addcmul(query.new_ones(()), query, keys, out=memory).reciprocal_()
