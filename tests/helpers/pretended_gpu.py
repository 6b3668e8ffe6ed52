"""Tensors that report to be on a GPU, with PyTorch's own autocast rules for them, on a machine without a GPU.

A `Pretended` tensor has the device `cuda:0` and holds a CPU tensor, so autocast treats it as a GPU's tensor and a model
computes real values. An operation on tensors of both devices is an error, as on a GPU. What the host would wait for,
and what would be launched, is noted in a `Record`. Autograd of a GPU's tensors needs a driver, so this works under
`torch.no_grad()` only.
"""

import copy
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attendgen.layers.state import map_tensors
from helpers.families import Training, keep_index
from helpers.gpu_kernels import ON_GPU_ONLY, patch_lstm
from helpers.launches import is_launch

GPU = torch.device("cuda:0")
ACROSS = ("aten::_to_copy", "aten::copy_", "aten::_pack_padded_sequence")  # operations with tensors of both devices
# operations for whose result, or its size, the host waits
SIZED = ("nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select")
WAITING = {f"aten::{name}" for name in ("_local_scalar_dense", "equal", *SIZED)}


class Record:
    """What would happen on a GPU inside a `pretended_gpu` block.

    Attributes:
        waits: how often the host would wait for the GPU, by operation and line of AttendGen.
        launches: how often each operation would be launched.
    """

    current: "Record | None" = None

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()


def note_wait(what: str) -> None:
    """Note that the host waits for the GPU, with the line of AttendGen that makes it wait."""
    if Record.current is None:
        return
    frames = [frame for frame in traceback.extract_stack() if "/attendgen/" in frame.filename]
    where = f"{frames[-1].filename.rpartition('/attendgen/')[2]}:{frames[-1].lineno}" if frames else "a test"
    Record.current.waits[f"{what} at {where}"] += 1


def note_operation(func: Any, args: Any, kwargs: dict[str, Any], on_gpu: bool, to_gpu: bool) -> None:
    """Note an operation on a GPU's tensors, or one whose result is there."""
    name = func._schema.name
    if on_gpu and name in WAITING:
        note_wait(name.removeprefix("aten::"))
    elif name == "aten::_to_copy" and on_gpu != to_gpu and not (to_gpu and kwargs.get("non_blocking")):
        note_wait("copy to the GPU" if to_gpu else "copy from the GPU")
    elif name == "aten::copy_" and len({isinstance(tensor, Pretended) for tensor in args[:2]}) > 1:
        note_wait("copy between devices")
    if to_gpu and Record.current is not None and is_launch(func):
        Record.current.launches[name.removeprefix("aten::")] += 1


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


@pytest.fixture
def lstm_dtypes(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtype of every output of cuDNN's LSTM, in order; `torch.lstm` calls cuDNN without asking for a driver."""
    return patch_lstm(monkeypatch)


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
        note_index(index, "index")
        with torch._C._DisableTorchDispatch():
            return Pretended(self.held[take_held(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        # a mask with one number is filled, which needs no count of its places
        note_index(index, "index_put_", is_filled=not isinstance(value, torch.Tensor))
        if isinstance(value, torch.Tensor) and not isinstance(value, Pretended) and value.dim():
            raise RuntimeError("index_put_: tensors on the CPU and on the GPU")
        index, value = take_held(index), take_held(value)
        with torch._C._DisableTorchDispatch():
            self.held[index] = value

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
        return self if self.held.is_contiguous() else torch.clone(self, memory_format=memory_format)

    def nonzero(self) -> "Pretended":
        note_wait("nonzero")
        with torch._C._DisableTorchDispatch():
            return Pretended(self.held.nonzero())

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **options: Any) -> "Pretended":
        note_wait("new_tensor")
        with torch._C._DisableTorchDispatch():
            return Pretended(torch.tensor(data, dtype=dtype or self.dtype))

    def __invert__(self) -> torch.Tensor:
        return torch.bitwise_not(self)

    def tolist(self) -> list[Any]:
        note_wait("tolist")
        return self.held.tolist()

    def item(self) -> Any:
        note_wait("item")
        return self.held.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def cpu(self) -> torch.Tensor:
        note_wait("cpu")
        return self.held

    def numpy(self, *arguments: Any) -> Any:
        raise TypeError("a GPU's tensor cannot be converted to numpy")

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
    tensors = list(iterate_leaves((args, *kwargs.values())))
    there = [isinstance(tensor, Pretended) for tensor in tensors]
    on_gpu = any(there)
    if on_gpu and name not in ACROSS and any(t.dim() for t in tensors if not isinstance(t, Pretended)):
        raise RuntimeError(f"{name}: tensors on the CPU and on the GPU")
    was_on_gpu = on_gpu
    if kwargs.get("device") is not None:
        on_gpu = torch.device(kwargs["device"]).type == "cuda"
    elif name == "aten::copy_":
        on_gpu = isinstance(args[0], Pretended)
    note_operation(func, args, kwargs, was_on_gpu, on_gpu)
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = take_held(args), {key: take_held(value) for key, value in kwargs.items()}
    results = ON_GPU_ONLY.get(name, func)(*args, **kwargs)
    if name == "aten::_pack_padded_sequence":  # the batch sizes stay on the CPU
        return Pretended(results[0]), results[1]
    return put_on_gpu(results) if on_gpu else results


def take_held(value: Any) -> Any:
    """Return arguments with CPU tensors in place of pretended ones."""
    if isinstance(value, Pretended):
        return value.held
    return type(value)(map(take_held, value)) if isinstance(value, list | tuple) else value


def put_on_gpu(value: Any) -> Any:
    """Return results with pretended tensors in place of CPU ones."""
    if isinstance(value, torch.Tensor):
        return Pretended(value)
    return type(value)(map(put_on_gpu, value)) if isinstance(value, list | tuple) else value


def iterate_leaves(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of arguments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from iterate_leaves(part)


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


def note_index(index: Any, name: str, is_filled: bool = False) -> None:
    """Note the launch of an index that copies, and what the host must wait for to compute it."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if isinstance(part, Pretended):
            if part.dtype == torch.bool and not is_filled:
                note_wait("index by a mask")
        elif isinstance(part, list | torch.Tensor):
            note_wait("index by a list or a CPU's tensor")
    if Record.current is not None and any(isinstance(part, list | torch.Tensor) for part in parts):
        Record.current.launches[name] += 1


@contextmanager
def pretended_gpu() -> Iterator[Record]:
    """Inside the block tensors can be on the pretended GPU, and what would happen there is recorded."""
    real = torch.tensor

    def make_tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        if device is None or torch.device(device).type == "cpu":
            return real(data, **options)
        note_wait("torch.tensor of numbers")
        with torch._C._DisableTorchDispatch():
            return Pretended(real(data, **options))

    record = Record()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "tensor", make_tensor)
        patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
        # inference mode forbids views of the pretended weights; there are no gradients anyway
        patch.setattr(torch.inference_mode, "__enter__", lambda mode: None)
        patch.setattr(torch.inference_mode, "__exit__", lambda mode, *error: None)
        patch_lstm(patch)
        patch.setattr(Record, "current", record)
        with Pretence():
            yield record


def pretend_training(training: Training) -> Training:
    """Return a copy of a task and its batch on the pretended GPU."""
    task: Any = pretend(copy.deepcopy(training.task))
    task._device = GPU
    return Training(task, keep_index(training.batch, map_tensors(pretend, training.batch)))
