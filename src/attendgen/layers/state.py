"""Memories and decoder states: trees of batch-first tensors.

A tree is a tensor, None, or a tuple, named tuple, list or dict of trees. Its tensors may have any number and size of
further dimensions, which may grow from step to step, as those of a cache of keys and values do. A state has at least
one.

Shapes: a memory has one row per input; a state has `rows` = inputs x hypotheses of each, input by input.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Memory(NamedTuple):
    """What a decoder attends to; `mask` is True where the source is real, None where all of it is.

    Attributes:
        keys: what the decoder computes once per memory: a tensor, or any tree of batch-first tensors.
    """

    keys: Any
    values: Float[Tensor, "batch source memory"]
    mask: Bool[Tensor, "batch source"] | None


class EmptyMemory(NamedTuple):
    """The memory of a model whose state holds all that it has read."""

    empty: Float[Tensor, "batch 0"]


class LSTMState(NamedTuple):
    """Hidden and cell state of an LSTM; a decoder of several layers has `rows layers hidden`."""

    hidden: Float[Tensor, "rows *layers hidden"]
    cell: Float[Tensor, "rows *layers hidden"]


class AttentionPast(NamedTuple):
    """Where the steps before attended: the weights of the last step, and their sum over all steps; zeros at first.

    Attention layers are given those of each query: batch query source.
    """

    last: Float[Tensor, "*rows source"]
    total: Float[Tensor, "*rows source"]


class AttentiveState(NamedTuple):
    """State of an LSTM with attention; `past` is None if its attention does not use it."""

    hidden: Float[Tensor, "rows hidden"]
    cell: Float[Tensor, "rows hidden"]
    past: AttentionPast | None = None


class AttentionWindow(NamedTuple):
    """Keys and values of the last `window` states, oldest first; `seen` is False before the beginning of the text."""

    keys: Float[Tensor, "rows window key"]
    values: Float[Tensor, "rows window key"]
    seen: Bool[Tensor, "rows window"]


class LanguageModelState(NamedTuple):
    """State of an LSTM language model: its LSTM, its attention window, and the tokens of unfinished n-grams.

    A model without attention or n-grams has tensors of width 0.
    """

    lstm: LSTMState
    window: AttentionWindow
    recent: Int[Tensor, "rows recent"]


class Member(NamedTuple):
    """One model of several that generate together: its share, from 0 to 1, and its own memory and state."""

    share: float
    model: Any
    memory: Any
    state: Any


def map_tensors(function: Callable[..., Tensor], tree: Any, *others: Any) -> Any:
    """Return a tree of the same structure with `function` applied to its tensors and those of `others` beside them."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, dict):
        return {key: map_tensors(function, part, *(other[key] for other in others)) for key, part in tree.items()}
    parts = [map_tensors(function, *part) for part in zip(tree, *others, strict=True)]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def iterate_tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of a tree, see `map_tensors`."""
    if isinstance(tree, Tensor):
        yield tree
    elif tree is not None:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from iterate_tensors(part)


def count_rows(tree: Any) -> int:
    """Return the size of the first dimension, which all tensors of a tree share."""
    return next(iterate_tensors(tree)).size(0)


def get_device(tree: Any) -> torch.device:
    """Return the device of a tree's tensors."""
    return next(iterate_tensors(tree)).device


def get_mask(memory: Any) -> Bool[Tensor, "batch source"] | None:
    """Return the mask of a memory, or of its first part that has one; None if there is none."""
    if isinstance(memory, dict):
        return memory.get("mask")
    if hasattr(memory, "_fields"):
        return getattr(memory, "mask", None)
    return get_mask(memory[0]) if isinstance(memory, tuple) and memory else None


def take_rows(tree: Any, rows: Int[Tensor, " rows"]) -> Any:
    """Choose (repeat, reorder) the rows of a state's or a memory's tensors by index."""
    return map_tensors(lambda part: part.index_select(0, rows), tree)


def repeat_rows(tree: Any, times: int) -> Any:
    """Repeat each row of a tree's tensors, so that `times` rows stand side by side for each."""
    return map_tensors(lambda part: part.repeat_interleave(times, dim=0), tree)


def to_float32(tree: Any) -> Any:
    """Convert a tree's floating-point tensors to single precision."""
    return map_tensors(lambda part: part.float() if part.is_floating_point() else part, tree)


def fill_tokens(state: Any, token: int) -> Int[Tensor, " rows"]:
    """Return one token per row of a state."""
    return torch.full((count_rows(state),), token, dtype=torch.long, device=get_device(state))
