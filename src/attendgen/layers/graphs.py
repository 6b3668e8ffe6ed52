"""CUDA graphs: what training steps and decoding steps share that are recorded once per shape and then replayed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor

from attendgen.layers.state import iterate_tensors

MULTIPLE = 4  # texts are padded to such a length, so that there are few shapes
MAX_GRAPHS = 64  # of a model or a task; what has further shapes is computed plainly
WARM_UP = 3  # calls in which libraries choose their kernels and allocate their workspaces

Tree: TypeAlias = Any  # of tensors, see `attendgen.layers.state`
Replay = Callable[[], None]
# runs a function once to record it; returns what runs it again, and the memory that each run writes
Record = Callable[[Callable[[], Any]], tuple[Replay, Any]]


class CudaRecorder:
    """Records functions as CUDA graphs that share their working memory.

    So the outputs of a graph must be used or copied before another one is replayed.

    Args:
        refuses_waits: let a function that waits for the GPU fail before it is recorded. A recording that fails leaves
            PyTorch's random numbers of the GPU in a state in which they cannot be drawn.
    """

    def __init__(self, refuses_waits: bool = False) -> None:
        self.refuses_waits = refuses_waits
        self.pool: Any = None
        self.stream: torch.cuda.Stream | None = None  # PyTorch's own belongs to the first GPU that is recorded for

    def __call__(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        """Run a function to warm up, and record it on the current GPU.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(side), refuse_waits() if self.refuses_waits else nullcontext():
                for _ in range(WARM_UP):
                    function()
        finally:
            torch.cuda.current_stream().wait_stream(side)
        graph, self.stream = torch.cuda.CUDAGraph(), self.stream or torch.cuda.Stream()
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # PyTorch 2.9 stays on the stream of a recording that fails
            # the thread that pins the next batch's memory may go on
            torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
        ):
            outputs = function()
        self.pool = self.pool or graph.pool()
        return graph.replay, outputs


@contextmanager
def refuse_waits() -> Iterator[None]:
    """Let operations for which the processor waits for the GPU raise a `RuntimeError` in the block."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that not every such operation is found
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def get_random_state(device: torch.device) -> Tensor:
    """Return the state of torch's stream of random numbers for a device; the host knows that of a GPU."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def keep_random_numbers(device: torch.device) -> Iterator[None]:
    """Let the random numbers of a device stand after the block as before: recording runs a step several times."""
    state = get_random_state(device)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)


def describe_shapes(tree: Tree) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    """Return what distinguishes the memory of one tree of tensors from that of another."""
    return tuple((part.shape, part.dtype) for part in iterate_tensors(tree))


def copy_tensors(to: Tree, source: Tree) -> None:
    """Copy a tree's tensors into those of another, those of one type and device by one operation."""
    pairs: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for old, new in zip(iterate_tensors(to), iterate_tensors(source), strict=True):
        if old.numel():
            # tensors of two devices in one list would be copied one by one
            kind = old.dtype, old.device, new.dtype, new.device
            olds, news = pairs.setdefault(kind, ([], []))
            olds.append(old)
            news.append(new)
    for olds, news in pairs.values():
        torch._foreach_copy_(olds, news, non_blocking=True)
