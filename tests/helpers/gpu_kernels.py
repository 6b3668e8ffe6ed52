"""Kernels that PyTorch has on a GPU alone, computed on a CPU."""

from typing import Any

import pytest
import torch


def call_cudnn(
    inputs: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor],
    weights: list[torch.Tensor],
    layers: int,
    train: bool,
    bidirectional: bool,
    batch_sizes: list[int],
) -> tuple[torch.Tensor, ...]:
    """Call cuDNN's LSTM below autocast: PyTorch's rule casts inputs and states.

    The rule casts the weights by means of cuDNN, which needs a GPU; float16 weights pass it as they are.
    """
    if torch.is_autocast_enabled("cuda"):
        weights = [weight.half() for weight in weights]
    elif len(dtypes := {part.dtype for part in (inputs, *state, *weights)}) > 1:
        raise RuntimeError(f"cuDNN's LSTM got {dtypes}: expected one dtype")
    size = weights[1].size(1)
    buffer = torch.cat([weight.detach().flatten() for weight in weights])
    lstm = 2  # cuDNN's number of this recurrence
    return torch._cudnn_rnn(
        inputs, weights, 4, buffer, *state, lstm, size, 0, layers, True, 0.0, train, bidirectional, batch_sizes, None
    )[:3]


def patch_lstm(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Let `torch.lstm` call cuDNN without asking for a driver; return the list of its outputs' dtypes."""
    if not torch.backends.cudnn.is_available():
        pytest.skip("this PyTorch is built without cuDNN")
    dtypes: list[torch.dtype] = []
    real = torch.lstm

    def lstm(inputs: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        if not inputs.is_cuda:
            return real(inputs, *rest)
        if isinstance(rest[0], torch.Tensor):  # batch sizes of packed inputs, which are never batch first
            sizes, state, weights, _, layers, _, train, bidirectional = rest
            outputs = call_cudnn(inputs, state, weights, layers, train, bidirectional, sizes.tolist())
        else:
            state, weights, _, layers, _, train, bidirectional, batch_first = rest
            assert batch_first
            outputs = call_cudnn(inputs, state, weights, layers, train, bidirectional, [])
        dtypes.append(outputs[0].dtype)
        return outputs

    monkeypatch.setattr(torch, "lstm", lstm)
    monkeypatch.setattr(torch._VF, "lstm", lstm)  # what `nn.LSTM` calls
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    return dtypes


def run_cudnn(inputs, weights, _stride, buffer, hidden, cell, _mode, _size, _project, layers, *rest):
    """Compute cuDNN's LSTM in single precision; its results have its inputs' dtype."""
    batch_first, _dropout, _train, bidirectional, sizes, _state = rest
    dtype = inputs.dtype
    inputs, hidden, cell, *weights = (part.float() for part in (inputs, hidden, cell, *weights))
    options = (True, layers, 0.0, False, bidirectional)
    if sizes:
        results = torch._C._VariableFunctions.lstm(inputs, torch.tensor(sizes), (hidden, cell), weights, *options)
    else:
        results = torch._C._VariableFunctions.lstm(inputs, (hidden, cell), weights, *options, batch_first)
    return *(result.to(dtype) for result in results), inputs.new_empty(0), buffer


def step_cell(inputs, hidden, cell, *biases):
    """Compute an LSTM cell's next state from the products of its weights with the inputs and the hidden state."""
    gates = sum(biases, inputs + hidden)
    i, f, g, o = gates.chunk(4, dim=1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell, gates


def normalize_batch(inputs, weight, bias, mean, variance, training, momentum, epsilon):
    """Compute cuDNN's batch norm in single precision; its result has its inputs' dtype."""
    settings = (weight, bias, mean, variance, training, momentum, epsilon)
    results = torch.native_batch_norm(inputs.float(), *settings)
    return results[0].to(inputs.dtype), *results[1:], inputs.new_empty(0)


def compute_softmax(inputs, dim, in_single_precision):
    """Compute the softmax of half-precision inputs in single precision, which no CPU does in one operation."""
    return torch.softmax(inputs.float() if in_single_precision else inputs, dim)


ON_GPU_ONLY = {
    "aten::_softmax": compute_softmax,
    "aten::_cudnn_rnn": run_cudnn,
    "aten::_thnn_fused_lstm_cell": step_cell,
    "aten::cudnn_batch_norm": normalize_batch,
}
