"""Count the kernels that a training step would launch on a GPU, on a machine without one.

An operation of PyTorch that computes something counts as one launch; views and uninitialized tensors cost none. Layers
take the path that they take on a GPU. cuDNN's LSTM counts as one launch forward and one backward, and a single step of
an LSTM as two matrix products and a fused kernel.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from helpers.families import Training

WITHOUT_KERNEL = {
    f"aten::{name}"
    for name in (
        "lift_fresh",
        "empty",
        "empty_like",
        "new_empty",
        "new_empty_strided",
        "empty_strided",
        "_unsafe_view",
        "detach",
        "is_same_size",
        "_local_scalar_dense",
    )
}


class LaunchCounter(TorchDispatchMode):
    """Count operations by name inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_launch(func):
            self.counts[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def is_launch(func: Any) -> bool:
    """Return whether an operation computes something on the device."""
    return not func.is_view and func._schema.name not in WITHOUT_KERNEL


class _Kernel(torch.autograd.Function):
    """One launch forward and one backward, whose results are zeros."""

    @staticmethod
    def forward(ctx: Any, counter: LaunchCounter, name: str, shapes: Any, dtype: torch.dtype, *inputs: Tensor) -> Any:
        ctx.counter, ctx.name, ctx.inputs = counter, name, [(part.shape, part.dtype) for part in inputs]
        counter.counts[name] += 1
        with _disable_current_modes():
            return tuple(torch.zeros(shape, dtype=dtype) for shape in shapes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.counter.counts[f"{ctx.name} backward"] += 1
        with _disable_current_modes():
            return None, None, None, None, *(torch.zeros(shape, dtype=dtype) for shape, dtype in ctx.inputs)


@contextmanager
def _paths_of_a_gpu(counter: LaunchCounter) -> Iterator[None]:
    def lstm(inputs: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        is_packed = isinstance(rest[0], Tensor)
        state, weights, _, layers, _, _, bidirectional = rest[1:8] if is_packed else rest[:7]
        assert layers * (2 if bidirectional else 1) == len(state[0])
        outputs = state[0].size(2) * (2 if bidirectional else 1)
        shapes = ((*inputs.shape[:-1], outputs), state[0].shape, state[1].shape)
        return _Kernel.apply(counter, "lstm", shapes, get_dtype(inputs), inputs, *state, *weights)

    def lstm_cell(inputs: Tensor, state: Any, input_weight: Tensor, hidden_weight: Tensor, *biases: Tensor) -> Any:
        products = functional.linear(inputs, input_weight), functional.linear(state[0], hidden_weight)
        shapes = (state[0].shape, state[1].shape)
        return _Kernel.apply(counter, "lstm_cell", shapes, get_dtype(inputs), *products, state[1], *biases)

    def fused_cell(gates: Tensor, more: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shapes = (cell.shape, cell.shape, gates.shape)
        return _Kernel.apply(counter, "lstm_cell", shapes, gates.dtype, gates, more, cell)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "lstm", lstm)
        patch.setattr(torch._VF, "lstm", lstm)  # what `nn.LSTM` calls
        patch.setattr(torch, "lstm_cell", lstm_cell)
        patch.setattr(torch.ops.aten, "_thnn_fused_lstm_cell", fused_cell)
        for name, module in list(sys.modules.items()):
            if name.startswith(("attendgen.layers", "attendgen.models")) and hasattr(module, "is_on_gpu"):
                patch.setattr(module, "is_on_gpu", lambda tensor: True)
        yield


def get_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which autocast computes."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else tensor.dtype


def count_launches(training: Training, dtype: torch.dtype | None = torch.bfloat16) -> Counter[str]:
    """Return the launches of a training step, forward and backward, by operation.

    Args:
        dtype: of autocast; None computes in single precision.
    """
    counter = LaunchCounter()
    # Lightning's autocast keeps no copies of the weights
    autocast = torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)
    with _paths_of_a_gpu(counter), counter:
        with autocast:
            loss = training.task.training_step(training.batch, 0)
        loss.backward()
    return counter.counts
