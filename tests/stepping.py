"""What every model owes the search that drives it."""

from typing import Any

import torch
from torch import Tensor


def assert_stepping_equals_teacher_forcing(model: Any, asked: Tensor, inputs: Tensor, forced: tuple) -> None:
    """Step by step from what is `asked` (a context, a source, pictures), the logits and attention of `forced`."""
    logits, alphas = forced
    memory, state = model.start(asked)
    for t in range(inputs.size(1)):
        log_probs, alpha, state = model.step(inputs[:, t], state, memory)
        torch.testing.assert_close(log_probs, logits[:, t].log_softmax(dim=-1))
        torch.testing.assert_close(alpha, alphas[:, t])
