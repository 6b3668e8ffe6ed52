"""Checks of models' interfaces: `encode` and `step` of all, `initial_state` and `read` of language models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attendgen.layers.state import iterate_tensors, take_rows


def assert_stepping_equals_teacher_forcing(
    model: Any, source: Tensor, inputs: Tensor, forced: tuple, **tolerance: float
) -> None:
    """Check that `step` gives the logits and the attention of teacher forcing.

    Args:
        source: what the model encodes: contexts, sources or images.
        forced: the logits and the attention of `inputs`.
    """
    assert_steps_equal(model, *model.encode(source), inputs, forced, **tolerance)


def assert_steps_equal(model: Any, memory: Any, state: Any, inputs: Tensor, forced: tuple, **tolerance: float) -> None:
    """Check that `step`, from a memory and a state, gives the logits and the attention of teacher forcing."""
    logits, alphas = forced
    for t in range(inputs.size(1)):
        log_probs, alpha, state = model.step(inputs[:, t], state, memory)
        # `step` returns single precision
        torch.testing.assert_close(log_probs, logits[:, t].log_softmax(dim=-1).to(log_probs.dtype), **tolerance)
        torch.testing.assert_close(alpha, alphas[:, t], **tolerance)


def assert_rows_share_their_memory(model: Any, source: Tensor, tokens: Tensor, run: Callable[..., tuple]) -> None:
    """Check that several rows of one input give the results of as many copies of that input.

    Args:
        run: the model's `step` or `continue_from`.
    """
    each = len(tokens) // len(source)
    memory, state = model.encode(source)
    shared = run(tokens, take_rows(state, torch.arange(len(source)).repeat_interleave(each)), memory)
    repeated, state = model.encode(source.repeat_interleave(each, dim=0))
    separate = run(tokens, state, repeated)
    for left, right in zip(iterate_tensors(shared), iterate_tensors(separate), strict=True):
        torch.testing.assert_close(left, right)


def assert_several_reads_equal_one(model: Any, inputs: Tensor, sizes: tuple[int, ...]) -> None:
    """Check that a text read in several calls, with the state passed on, gives the results of one call.

    Args:
        sizes: number of tokens in each call.
    """
    whole, alphas, last = model.read(inputs, model.initial_state(len(inputs)))
    state, parts = model.initial_state(len(inputs)), []
    for chunk in inputs.split(sizes, dim=1):
        logits, alpha, state = model.read(chunk, state)
        parts.append((logits, alpha))
    for expected, found in zip((whole, alphas), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(found, dim=1), expected)
    torch.testing.assert_close(list(iterate_tensors(state)), list(iterate_tensors(last)))


def assert_no_future_token_leaks(model: Any, inputs: Tensor, vocab_size: int) -> None:
    """Check that changing all tokens from a position on changes its prediction, and nothing before it."""
    logits, alphas, _ = model.read(inputs, model.initial_state(len(inputs)))
    for t in range(inputs.size(1)):
        changed = inputs.clone()
        changed[:, t:] = changed[:, t:] % (vocab_size - 1) + 1
        other, alpha, _ = model.read(changed, model.initial_state(len(inputs)))
        torch.testing.assert_close((other[:, :t], alpha[:, :t]), (logits[:, :t], alphas[:, :t]), rtol=0, atol=0)
        assert not torch.allclose(other[:, t], logits[:, t])
