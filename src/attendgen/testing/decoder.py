"""Checks of a decoder."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attendgen.decoding.decode import convert_memory
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.multi_head import MultiHeadAttention
from attendgen.layers.past_attention import CoverageAttention
from attendgen.layers.state import Memory, map_tensors, repeat_rows, take_rows, to_float32
from attendgen.testing.compare import (
    explain_errors,
    fixed_seed,
    in_eval,
    require_close,
    require_distribution,
    require_gradients,
    require_shape,
)

LENGTHS = (4, 2, 1)  # of the memories
TIME = 8  # more than the lengths: a shortcut that multiplies the memory once would be less work
NAMES = ("features", "attention weights", "state")
# a weighted sum, which may be reordered; a context that is none; weights that depend on those before
ATTENTIONS = (AdditiveAttention, partial(MultiHeadAttention, heads=2), CoverageAttention)


def check_decoder(
    make: Callable[..., Any],
    inputs: int = 5,
    hidden: int = 6,
    memory: int = 6,
    attention: Callable[..., Any] | None = None,
    tolerance: float = 1e-5,
    half_tolerance: float = 0.1,
) -> None:
    """Check that a decoder keeps the contract of `attendgen.layers.Decoder`.

    All steps at once equal one step at a time, from any state; rows that share a memory equal rows with copies of it;
    reordering rows commutes with a step; padding of the memory has no influence; it runs in bfloat16, and its gradients
    are finite.

    Args:
        make: makes the decoder from `inputs`, `hidden` and `memory` sizes and from `attention`.
        inputs, hidden, memory: these sizes.
        attention: makes the attention layer; additive, multi-head and coverage attention in turn unless given.
        tolerance: of differences.
        half_tolerance: of differences between bfloat16 and single precision.

    Raises:
        AssertionError: it does not; the message says what differs, and by how much.
    """
    for chosen in ATTENTIONS if attention is None else (attention,):
        with fixed_seed():
            try:
                with explain_errors(f"the decoder is made with inputs={inputs}, hidden={hidden}, memory={memory}"):
                    decoder = in_eval(make(inputs=inputs, hidden=hidden, memory=memory, attention=chosen))
                    case = _Case(decoder, inputs, hidden, memory)
                with explain_errors("all steps at once, and one at a time"):
                    _check_steps(case, tolerance)
                with explain_errors("two rows per row of the memory"):
                    _check_rows(case, tolerance)
                _check_padding(case, tolerance)
                with explain_errors("bfloat16, with a state in single precision, as in decoding"):
                    _check_half_precision(case, half_tolerance)
            except AssertionError as error:
                name = getattr(chosen, "func", chosen)
                raise AssertionError(f"with {getattr(name, '__name__', name)}: {error}") from error


class _Case:
    """A decoder and what it is given."""

    def __init__(self, decoder: Any, inputs: int, hidden: int, memory: int) -> None:
        self.decoder = decoder
        self.values = torch.randn(len(LENGTHS), max(LENGTHS), memory)
        self.mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
        self.first = [torch.randn(len(LENGTHS), decoder.layers, hidden) for _ in range(2)]
        self.inputs = torch.randn(len(LENGTHS), TIME, inputs)

    def start(self, values: Float[Tensor, "batch source memory"] | None = None) -> tuple[Memory, Any]:
        """Return a memory and the first state."""
        values = self.values if values is None else values
        memory = Memory(self.decoder.keys(values), values, self.mask)
        return memory, self.decoder.initial_state(*self.first, memory)

    def run(self) -> tuple[Tensor, Tensor, Any]:
        """Return the features and attention weights of all steps, and the last state."""
        memory, state = self.start()
        features, alphas, state = self.decoder(self.inputs, state, memory)
        return features, alphas, state


def _check_steps(case: _Case, tolerance: float) -> None:
    decoder, inputs = case.decoder, case.inputs
    features, alphas, last = case.run()
    require_shape("features", features, (*inputs.shape[:2], decoder.features))
    require_shape("attention weights", alphas, (*inputs.shape[:2], case.mask.size(1)))
    require_distribution("all steps", alphas, case.mask, tolerance)
    memory, state = case.start()
    for t in range(TIME):
        feature, alpha, state = decoder.step(inputs[:, t], state, memory)
        expected = (features[:, t], alphas[:, t])
        require_close(f"step {t} differs from all steps at once", (feature, alpha), expected, NAMES[:2], tolerance)
    require_close("after the last step", [state], [last], NAMES[2:], tolerance)
    state, parts = case.start()[1], []
    for part in inputs.split(3, dim=1):
        *found, state = decoder(part, state, memory)
        parts.append(found)
    joined = [torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True)]
    whole = (features, alphas, last)
    require_close("a continued state differs from one pass", (*joined, state), whole, NAMES, tolerance)
    require_gradients("gradients", decoder, (features, alphas), all_used=True)


def _check_rows(case: _Case, tolerance: float) -> None:
    decoder, twice = case.decoder, case.inputs.repeat_interleave(2, dim=0)
    twice = twice + torch.randn_like(twice)
    memory, state = case.start()
    for name, run, given in (("forward", decoder, twice), ("step", decoder.step, twice[:, 0])):
        shared, copied = (run(given, repeat_rows(state, 2), kept) for kept in (memory, repeat_rows(memory, 2)))
        what = f"{name}: rows that share a memory differ from rows with copies of it"
        require_close(what, shared, copied, NAMES, tolerance)
    _, _, state = decoder.step(case.inputs[:, 0], state, memory)
    order = torch.tensor([2, 0, 0, 1])
    whole = map_tensors(lambda part: part[order], decoder.step(case.inputs[:, 1], state, memory))
    found = decoder.step(case.inputs[order, 1], take_rows(state, order), take_rows(memory, order))
    require_close("reordering the rows does not commute with a step", found, whole, NAMES, tolerance)


def _check_padding(case: _Case, tolerance: float) -> None:
    changed = torch.where(case.mask.unsqueeze(-1), case.values, 10 * torch.randn_like(case.values))
    memory, state = case.start(changed)
    found, expected = case.decoder(case.inputs, state, memory), case.run()
    what = "memory vectors at masked positions have an influence"
    require_close(what, found[:2], expected[:2], NAMES[:2], tolerance)


def _check_half_precision(case: _Case, tolerance: float) -> None:
    features, alphas, _ = case.run()
    half = in_eval(case.decoder).bfloat16()
    values = case.values.bfloat16()
    memory = Memory(half.keys(values), values, case.mask)
    state = half.initial_state(*(part.bfloat16() for part in case.first), memory)
    memory, state = convert_memory(half, memory), to_float32(state)  # as in decoding
    for t in range(TIME):
        feature, alpha, state = half.step(case.inputs[:, t].bfloat16(), state, memory)
        require_close(f"bfloat16, step {t}", (feature, alpha), (features[:, t], alphas[:, t]), NAMES[:2], tolerance)
