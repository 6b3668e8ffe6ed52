"""Checks of a model."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.decode import convert_memory
from attendgen.decoding.protocol import StatefulModel
from attendgen.layers.encoder import Features
from attendgen.layers.state import map_tensors, repeat_rows, take_rows, to_float32
from attendgen.layers.tables import Cells
from attendgen.testing.compare import (
    explain_errors,
    fixed_seed,
    in_eval,
    require_close,
    require_gradients,
    require_shape,
)
from attendgen.utils.special_tokens import PAD

NAMES = ("log-probabilities", "attention weights", "state")


def check_model(
    model: Any,
    inputs: Int[Tensor, "batch source"] | Tensor | Features | Cells,
    tokens: Int[Tensor, "batch *captions time"],
    tolerance: float = 1e-4,
    half_tolerance: float | None = 0.15,
) -> None:
    """Check that a model computes one function, in training and in decoding alike.

    Teacher forcing equals one step at a time; rows that share a memory equal rows with copies of it; reordering and
    repeating rows of a state commutes with a step; no prediction depends on a later token, on padding, or on the other
    rows of the batch; a stateful language model's text in parts equals one pass; decoding in bfloat16 is near, and
    gradients are finite.

    Args:
        model: of any family; a copy in evaluation mode is checked.
        inputs: what `encode` takes, at least two rows: sources, contexts, images, features or
            the cells of tables.
        tokens: what `forward` takes beside them, at least two per row: `batch time`, or `batch captions time`.
        tolerance: of differences.
        half_tolerance: of differences between bfloat16 and single precision; None does not check it.

    Raises:
        AssertionError: it does not; the message says what differs, and by how much.
    """
    with fixed_seed():
        case = _Case(in_eval(model), inputs, tokens)
        with explain_errors("forward"):
            case.forced = case.force(inputs, tokens)
        with explain_errors("encode and step"):
            _check_steps(case, tolerance)
        with explain_errors("encode and step, with two rows per row of the memory"):
            _check_rows(case, tolerance)
        _check_causality(case, tolerance)
        _check_batch(case, tolerance)
        if isinstance(model, StatefulModel):
            _check_parts(case, tolerance)
        if half_tolerance is not None:
            with explain_errors("bfloat16, with a state in single precision, as in decoding"):
                _check_half_precision(case, half_tolerance)
        require_gradients("gradients", case.model, case.model(inputs, tokens)[:1])


class _Case:
    """A model, what it is given, and what teacher forcing returns for it."""

    forced: tuple[Tensor, Tensor]

    def __init__(self, model: Any, inputs: Any, tokens: Tensor) -> None:
        self.model = model
        self.inputs = inputs
        self.tokens = tokens
        self.captions = tokens.size(1) if tokens.dim() == 3 else 1
        self.rows = tokens.reshape(-1, tokens.size(-1))  # rows time

    def force(
        self, inputs: Any, tokens: Tensor
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time _"]]:
        """Return log-probabilities and attention weights by teacher forcing."""
        logits, alphas = self.model(inputs, tokens)
        for name, part in (("logits", logits), ("attention weights", alphas)):
            require_shape(f"forward: {name}", part, (*tokens.shape, part.size(-1)))
        logits, alphas = (part.flatten(0, -3) for part in (logits, alphas))
        return logits.log_softmax(dim=-1), alphas

    def start(self, inputs: Any, model: Any = None) -> tuple[Any, Any]:
        """Return the memory of the inputs, and one row of the first state per row of tokens."""
        memory, state = (self.model if model is None else model).encode(inputs)
        return memory, repeat_rows(state, self.captions)


def _check_steps(case: _Case, tolerance: float) -> None:
    memory, state = case.start(case.inputs)
    for t in range(case.rows.size(1)):
        log_probs, alpha, state = case.model.step(case.rows[:, t], state, memory)
        expected = [part[:, t] for part in case.forced]
        what = f"step {t} differs from teacher forcing"
        require_close(what, (log_probs, alpha), expected, NAMES[:2], tolerance)


def _check_rows(case: _Case, tolerance: float) -> None:
    step = case.model.step
    memory, state = case.model.encode(case.inputs)
    tokens = case.rows[:: case.captions].repeat_interleave(2, dim=0)
    tokens[1::2] = tokens.roll(1, dims=0)[1::2].flip(1)
    states = [repeat_rows(state, 2), repeat_rows(state, 2)]
    memories = [memory, repeat_rows(memory, 2)]
    for t in range(tokens.size(1)):
        shared, copied = (step(tokens[:, t], *given) for given in zip(states, memories, strict=True))
        what = f"step {t}: rows that share a memory differ from rows with copies of it"
        require_close(what, shared, copied, NAMES, tolerance)
        states = [shared[2], copied[2]]
    _, _, state = step(case.rows[:: case.captions, 0], state, memory)
    order = torch.arange(len(tokens) // 2).flip(0).repeat_interleave(2)
    whole = step(case.rows[:: case.captions, 1], state, memory)
    found = step(case.rows[:: case.captions, 1][order], take_rows(state, order), take_rows(memory, order))
    expected = map_tensors(lambda part: part[order], whole)
    require_close("reordering the rows does not commute with a step", found, expected, NAMES, tolerance)


def _check_causality(case: _Case, tolerance: float) -> None:
    vocabulary = case.forced[0].size(-1)
    for t in range(1, case.rows.size(1)):
        changed = case.tokens.clone()
        changed[..., t:] = changed[..., t:] % (vocabulary - 1) + 1
        found = [part[:, :t] for part in case.force(case.inputs, changed)]
        expected = [part[:, :t] for part in case.forced]
        require_close(f"another token {t} changes what is before it", found, expected, NAMES[:2], tolerance)


def _check_batch(case: _Case, tolerance: float) -> None:
    padded = _pad(case.inputs)
    if padded is not None:
        found = case.force(padded, case.tokens)
        require_close("padding has an influence", *_align(found, case.forced), NAMES[:2], tolerance)
    for row in range(len(case.tokens)):
        alone = _take(case.inputs, row)
        if isinstance(alone, Tensor) and not alone.is_floating_point() and alone.dim() == 2:
            alone = alone[:, : max(1, int((alone != PAD).sum()))]
        rows = slice(row * case.captions, (row + 1) * case.captions)
        found = case.force(alone, case.tokens[row : row + 1])
        whole = (case.forced[0][rows], case.forced[1][rows])
        require_close(f"row {row} differs from the row alone", *_align(whole, found), NAMES[:2], tolerance)


def _align(longer: tuple[Tensor, Tensor], shorter: tuple[Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return both with as many attention weights, which must be zero where one of them has padding."""
    missing = longer[1].size(-1) - shorter[1].size(-1)
    return list(longer), [shorter[0], torch.nn.functional.pad(shorter[1], (0, max(0, missing)))]


def _take(inputs: Any, row: int) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[row : row + 1]
    return map_tensors(lambda part: part[row : row + 1], inputs)


def _pad(inputs: Any) -> Any:
    """Return inputs with padding at their end; None for images."""
    if isinstance(inputs, Cells):
        return map_tensors(_pad, inputs)
    if isinstance(inputs, Tensor) and inputs.dim() == 2:
        return torch.nn.functional.pad(inputs, (0, 2), value=PAD)
    if isinstance(inputs, Tensor) and inputs.dim() == 3:
        inputs = Features(inputs, torch.ones(inputs.shape[:2], dtype=torch.bool))
    if not isinstance(inputs, Features):
        return None
    values = torch.cat([inputs.values, 10 * torch.randn_like(inputs.values[:, :2])], dim=1)
    return Features(values, torch.nn.functional.pad(inputs.mask, (0, values.size(1) - inputs.mask.size(1))))


def _check_parts(case: _Case, tolerance: float) -> None:
    model, text = case.model, case.rows
    whole = model.read(text, model.initial_state(len(text)))
    names = ("logits", *NAMES[1:])
    for size in range(1, text.size(1)):
        state, parts = model.initial_state(len(text)), []
        for part in text.split(size, dim=1):
            logits, alphas, state = model.read(part, state)
            parts.append((logits, alphas))
        joined = [torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True)]
        what = f"a text read {size} tokens at a time differs from one pass"
        require_close(what, (*joined, state), whole, names, tolerance)


def _check_half_precision(case: _Case, tolerance: float) -> None:
    half = in_eval(case.model).bfloat16()
    inputs = case.inputs
    if not isinstance(inputs, Tensor) or inputs.is_floating_point():
        inputs = map_tensors(lambda part: part.bfloat16() if part.is_floating_point() else part, inputs)
    memory, state = case.start(inputs, half)
    memory, state = convert_memory(half, memory), to_float32(state)  # as in decoding
    for t in range(case.rows.size(1)):
        log_probs, alpha, state = half.step(case.rows[:, t], state, memory)
        expected = [part[:, t] for part in case.forced]
        require_close(f"bfloat16, step {t}", (log_probs, alpha), expected, NAMES[:2], tolerance)
