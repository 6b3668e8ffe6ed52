"""Tensors that report to be on a GPU, with PyTorch's own autocast rules for them, on a machine without a GPU.

A `Pretended` tensor has the device `cuda:0` and holds a CPU tensor, so autocast treats it as a GPU's tensor and a model
computes real values. An operation on tensors of both devices is an error, as on a GPU. Autograd of a GPU's tensors
needs a driver, so this works under `torch.no_grad()` only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda:0")
ACROSS = ("aten::_to_copy", "aten::copy_", "aten::_pack_padded_sequence")  # operations with tensors of both devices


@contextmanager
def autocast(dtype: torch.dtype) -> Iterator[None]:
    """Turn on a GPU's autocast, which `torch.autocast` refuses to do without a GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_autocast_cache_enabled()
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_cache_enabled(False)  # as Lightning has it
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
        torch.set_autocast_cache_enabled(before[2])


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


@pytest.fixture
def lstm_dtypes(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtype of every output of cuDNN's LSTM, in order; `torch.lstm` calls cuDNN without asking for a driver."""
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


class Pretended(torch.Tensor):
    """A CPU tensor that reports to be on a GPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Pretended":
        pretended = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=GPU
        )
        pretended.held = held
        return pretended

    __torch_function__ = torch._C._disabled_torch_function_impl

    # PyTorch's own versions of these methods ask for a driver before `__torch_dispatch__` is called

    def __getitem__(self, index: Any) -> "Pretended":
        with torch._C._DisableTorchDispatch():
            return Pretended(self.held[tree_map_only(Pretended, lambda tensor: tensor.held, index)])

    def __setitem__(self, index: Any, value: torch.Tensor) -> None:
        torch.ops.aten.copy_(self[index], value)

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
        return self if self.held.is_contiguous() else torch.clone(self, memory_format=memory_format)

    def nonzero(self) -> "Pretended":
        with torch._C._DisableTorchDispatch():
            return Pretended(self.held.nonzero())

    def __invert__(self) -> torch.Tensor:
        return torch.bitwise_not(self)

    def tolist(self) -> list[Any]:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Pretence(TorchDispatchMode):
    """Create a `Pretended` tensor where a tensor on a GPU is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU tensors; its results are on the device of its arguments."""
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [isinstance(tensor, Pretended) for tensor in tensors]
    on_gpu = any(there)
    if on_gpu and name not in ACROSS and any(t.dim() for t in tensors if not isinstance(t, Pretended)):
        raise RuntimeError(f"{name}: tensors on the CPU and on the GPU")
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map_only(Pretended, lambda tensor: tensor.held, (args, kwargs))
    with_cuda_only = {"aten::_cudnn_rnn": run_cudnn, "aten::_thnn_fused_lstm_cell": step_cell}
    results = with_cuda_only.get(name, func)(*args, **kwargs)
    if name == "aten::_pack_padded_sequence":  # the batch sizes stay on the CPU
        return Pretended(results[0]), results[1]
    return tree_map_only(torch.Tensor, Pretended, results) if on_gpu else results


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


def step_cell(inputs, hidden, cell, input_bias, hidden_bias):
    """Compute an LSTM cell's next state from the products of its weights with the inputs and the hidden state."""
    gates = inputs + hidden + input_bias + hidden_bias
    i, f, g, o = gates.chunk(4, dim=1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell, gates


def pretend(value: Any) -> Any:
    """Put a tensor or a module's parameters and buffers on the pretended GPU."""
    if isinstance(value, torch.Tensor):
        return Pretended(value.detach())
    for module in value.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(pretend(weight), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = pretend(buffer)
        if isinstance(module, nn.LSTM):
            module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    return value
