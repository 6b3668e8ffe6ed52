"""What every model owes the search that drives it, and those that read on owe their readers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attendgen.layers.state import take_rows


def assert_stepping_equals_teacher_forcing(
    model: Any, asked: Tensor, inputs: Tensor, forced: tuple, **tolerance: float
) -> None:
    """Step by step from what is `asked` (a context, a source, pictures), the logits and attention of `forced`."""
    assert_steps_equal(model, *model.encode(asked), inputs, forced, **tolerance)


def assert_steps_equal(model: Any, memory: Any, state: Any, inputs: Tensor, forced: tuple, **tolerance: float) -> None:
    """Step by step from a memory and a state, the logits and attention of `forced`."""
    logits, alphas = forced
    for t in range(inputs.size(1)):
        log_probs, alpha, state = model.step(inputs[:, t], state, memory)
        torch.testing.assert_close(log_probs, logits[:, t].log_softmax(dim=-1), **tolerance)
        torch.testing.assert_close(alpha, alphas[:, t], **tolerance)


def assert_rows_share_their_memory(model: Any, asked: Tensor, tokens: Tensor, run: Callable[..., tuple]) -> None:
    """`run` (step or decode) gives several rows of one input what it gives inputs of their own."""
    each = len(tokens) // len(asked)
    memory, state = model.encode(asked)
    shared = run(tokens, take_rows(state, torch.arange(len(asked)).repeat_interleave(each)), memory)
    repeated, state = model.encode(asked.repeat_interleave(each, dim=0))
    separate = run(tokens, state, repeated)
    for left, right in zip((*shared[:2], *shared[2]), (*separate[:2], *separate[2]), strict=True):
        torch.testing.assert_close(left, right)


def assert_several_reads_equal_one(model: Any, inputs: Tensor, cuts: tuple[int, ...]) -> None:
    """Text read in several calls, the state handed on, and in one."""
    whole, alphas, last = model.read(inputs, model.initial_state(len(inputs)))
    state, parts = model.initial_state(len(inputs)), []
    for piece in inputs.split(cuts, dim=1):
        logits, alpha, state = model.read(piece, state)
        parts.append((logits, alpha))
    for expected, found in zip((whole, alphas), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(found, dim=1), expected)
    torch.testing.assert_close(tuple(state), tuple(last))


def assert_no_future_character_leaks(model: Any, inputs: Tensor, symbols: int) -> None:
    """Other characters from any place on leave all before it as it was, and change what that place predicts."""
    logits, alphas, _ = model.read(inputs, model.initial_state(len(inputs)))
    for t in range(inputs.size(1)):
        changed = inputs.clone()
        changed[:, t:] = changed[:, t:] % (symbols - 1) + 1
        other, alpha, _ = model.read(changed, model.initial_state(len(inputs)))
        torch.testing.assert_close((other[:, :t], alpha[:, :t]), (logits[:, :t], alphas[:, :t]), rtol=0, atol=0)
        assert not torch.allclose(other[:, t], logits[:, t])
