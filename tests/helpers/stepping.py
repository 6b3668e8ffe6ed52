"""What `attendgen.testing.check_model` does not check: texts in parts of given sizes, and `continue_from`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attendgen.layers.state import iterate_tensors, take_rows


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
