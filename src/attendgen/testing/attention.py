"""Checks of an attention layer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attendgen.layers.attention import weigh_scores
from attendgen.layers.attention_protocol import has_scores, has_weighted_sum, score_queries, uses_past
from attendgen.layers.state import AttentionPast, map_tensors
from attendgen.testing.compare import (
    explain_errors,
    fixed_seed,
    in_eval,
    require_close,
    require_distribution,
    require_finite,
    require_gradients,
    require_shape,
)

LENGTHS = (5, 3, 1, 0)  # of the memories; the last has no real position
QUERIES = 3
NAMES = ("context", "attention weights")


class Given(NamedTuple):
    """What a layer is called with."""

    query: Float[Tensor, "batch query dim"]
    memory: Float[Tensor, "batch source memory"]
    mask: Bool[Tensor, "batch source"] | None
    past: AttentionPast | None


def check_attention(
    make: Callable[..., Any], query: int = 8, memory: int = 8, tolerance: float = 1e-5, half_tolerance: float = 0.1
) -> None:
    """Check that an attention layer keeps the contract of `attendgen.layers.Attention` or `PastAttention`.

    Padding has no influence; masked positions have the weight 0, the others sum to 1; rows of a batch, queries and
    calls are independent; a layer that declares `context_is_weighted_sum` computes one, and the softmax of its
    `score_keys`, if it has them, are its weights; one that declares `uses_past` does use it; it runs in bfloat16; and
    its gradients are finite and reach all parameters.

    Args:
        make: makes the layer from `query` and `memory` sizes.
        query, memory: these sizes.
        tolerance: of differences.
        half_tolerance: of differences between bfloat16 and single precision.

    Raises:
        AssertionError: it does not; the message says what differs, and by how much.
    """
    with fixed_seed():
        with explain_errors(f"the layer is made with query={query}, memory={memory}"):
            layer = in_eval(make(query=query, memory=memory))
        given = _draw_inputs(layer, query, memory)
        with explain_errors("a memory, of which one row has no real position"):
            found = _attend(layer, given)
        batch, source = given.memory.shape[:2]
        for name, part, size in zip(NAMES, found, (memory, source), strict=True):
            require_shape(name, part, (batch, QUERIES, size))
            require_finite(f"a memory without real positions: {name}", part)
        assert given.mask is not None
        require_distribution("masked memory", found[1], given.mask, tolerance)
        _check_independence(layer, given, found, tolerance)
        _check_padding(layer, given, found, tolerance)
        if has_weighted_sum(layer):
            _check_weighted_sum(layer, given, found, tolerance)
        if has_scores(layer):
            _check_scores(layer, given, found, tolerance)
        if given.past is not None:
            _check_past(layer, given, found)
        with explain_errors("bfloat16"):
            _check_half_precision(layer, given, found, half_tolerance)
        _check_gradients(layer, given)


def _draw_inputs(layer: Any, query: int, memory: int) -> Given:
    batch, source = len(LENGTHS), max(LENGTHS)
    mask = torch.arange(source) < torch.tensor(LENGTHS).unsqueeze(1)
    past = None
    if uses_past(layer):
        last = torch.rand(batch, QUERIES, source) * mask.unsqueeze(1)
        past = AttentionPast(last, last + torch.rand_like(last) * mask.unsqueeze(1))
    return Given(torch.randn(batch, QUERIES, query), torch.randn(batch, source, memory), mask, past)


def _attend(layer: Any, given: Given, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the context and alpha; the context of another memory, if one is given, with the same keys."""
    more = () if given.past is None else (given.past,)
    values = given.memory if memory is None else memory
    keys = layer.keys(given.memory)
    returned = layer(given.query, keys, values, given.mask, *more)
    if not isinstance(returned, tuple) or len(returned) != 2:
        number = len(returned) if isinstance(returned, tuple) else 1
        raise AssertionError(f"the call returns {number} values, expected two: the context and the attention weights")
    return returned


def _check_independence(layer: Any, given: Given, found: tuple[Tensor, Tensor], tolerance: float) -> None:
    keys, more = layer.keys(given.memory), () if given.past is None else (given.past,)
    calls = [layer(given.query, keys, given.memory, given.mask, *more) for _ in range(2)]
    require_close("a second call with the same keys differs from the first", calls[1], calls[0], NAMES, tolerance)
    for row in range(len(LENGTHS)):
        alone = _attend(layer, map_tensors(lambda part, row=row: part[row : row + 1], given))
        expected = [part[row : row + 1] for part in found]
        require_close("a row of a batch differs from the row alone", alone, expected, NAMES, tolerance)
    for i in range(QUERIES):
        past = map_tensors(lambda part, i=i: part[:, i : i + 1], given.past)
        alone = _attend(layer, given._replace(query=given.query[:, i : i + 1], past=past))
        expected = [part[:, i : i + 1] for part in found]
        require_close("several queries differ from one at a time", alone, expected, NAMES, tolerance)


def _check_padding(layer: Any, given: Given, found: tuple[Tensor, Tensor], tolerance: float) -> None:
    assert given.mask is not None
    noise = 10 * torch.randn_like(given.memory)
    other = torch.where(given.mask.unsqueeze(-1), given.memory, noise)
    changed = _attend(layer, given._replace(memory=other))
    require_close("memory vectors at masked positions have an influence", changed, found, NAMES, tolerance)
    for row, length in enumerate(LENGTHS):
        if not length:
            continue
        past = map_tensors(lambda part, row=row, length=length: part[row : row + 1, :, :length], given.past)
        short = Given(given.query[row : row + 1], given.memory[row : row + 1, :length], None, past)
        expected = [found[0][row : row + 1], found[1][row : row + 1, :, :length]]
        require_close("padding changes the result", _attend(layer, short), expected, NAMES, tolerance)


def _check_weighted_sum(layer: Any, given: Given, found: tuple[Tensor, Tensor], tolerance: float) -> None:
    context, alpha = found
    declared = "context_is_weighted_sum is declared"
    product = alpha @ given.memory
    require_close(declared, [context], [product], ["context, compared with alpha @ memory,"], tolerance)
    linear = torch.randn(given.memory.size(-1), given.memory.size(-1) + 1)
    mapped = _attend(layer, given, given.memory @ linear)
    names = ("context of a linear map of the memory", "attention weights with a linear map of the memory")
    require_close(declared, mapped, [context @ linear, alpha], names, 10 * tolerance)


def _check_scores(layer: Any, given: Given, found: tuple[Tensor, Tensor], tolerance: float) -> None:
    with explain_errors("score_keys is defined"):
        alpha = weigh_scores(score_queries(layer, given.query, layer.keys(given.memory)), given.mask)
    what = "score_keys is defined, and training attends with the softmax of its scores"
    require_close(what, [found[1]], [alpha], NAMES[1:], tolerance)


def _check_past(layer: Any, given: Given, found: tuple[Tensor, Tensor]) -> None:
    zeros = map_tensors(torch.zeros_like, given.past)
    start = _attend(layer, given._replace(past=zeros))
    require_finite("a past of zeros", start)
    if all(torch.equal(one, other) for one, other in zip(start, found, strict=True)):
        raise AssertionError("uses_past is declared, but another past gives the same context and attention weights")


def _check_half_precision(layer: Any, given: Given, found: tuple[Tensor, Tensor], tolerance: float) -> None:
    half = in_eval(layer)
    if isinstance(half, torch.nn.Module):
        half.bfloat16()
    query, memory = given.query.bfloat16(), given.memory.bfloat16()
    converted = given._replace(query=query, memory=memory)
    require_close("bfloat16", _attend(half, converted), found, NAMES, tolerance)


def _check_gradients(layer: Any, given: Given) -> None:
    query, memory = (part.clone().requires_grad_() for part in (given.query, given.memory))
    outputs = _attend(layer, given._replace(query=query, memory=memory))
    require_gradients("gradients", layer, outputs, (query, memory), all_used=True)
