"""Decoding steps as CUDA graphs: a step is recorded when the shapes of its inputs come again, and then replayed.

A step of a small model consists of dozens of kernels, each of which takes the processor longer to launch than the GPU
to run. A recorded graph is launched as one.
"""

import itertools
import logging
import operator
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.decoding.protocol import DecodableModel
from attendgen.layers.graphs import (
    MAX_GRAPHS,
    CudaRecorder,
    Record,
    Replay,
    Tree,
    copy_tensors,
    describe_shapes,
    keep_random_numbers,
)
from attendgen.layers.state import iterate_tensors, map_tensors

MAX_BYTES = 2**31  # of the graphs' inputs and outputs: a Transformer's state has another shape at each step

log = logging.getLogger(__name__)


class StaticMemory:
    """The memory that recorded steps read: a copy of the current memory."""

    def __init__(self, memory: Tree) -> None:
        self.copy = map_tensors(torch.clone, memory)
        self.copied: list[weakref.ref[Tensor]] = []

    def set(self, memory: Tree) -> None:
        """Copy a memory, unless it is the last one that was copied: it stays the same during a search."""
        parts, last = list(iterate_tensors(memory)), [copied() for copied in self.copied]
        if len(parts) == len(last) and all(map(operator.is_, parts, last)):
            return
        copy_tensors(self.copy, memory)
        self.copied = [weakref.ref(part) for part in parts]


class RecordedStep(NamedTuple):
    """A recorded step, with the tensors that it reads and those that it writes."""

    replay: Replay
    tokens: Int[Tensor, " rows"]
    state: Tree
    memory: StaticMemory
    outputs: Tree


class GraphedModel:
    """A model whose `step` replays graphs.

    A step whose inputs have new shapes is computed plainly the first time, recorded the second time, and replayed from
    then on. What it returns are copies, which later steps leave alone. A model whose steps cannot be recorded, because
    they need numbers that the processor reads from the GPU, is decoded from plainly. So is one that is not a module,
    because it cannot be asked whether its weights moved.

    Args:
        model: in evaluation mode. Graphs read its weights where they are, so these may change, but not move.
        record: runs a function once to record it, and returns what runs it again.
    """

    def __init__(self, model: DecodableModel, record: Record) -> None:
        self.model, self.record = model, record
        self.place = find_place(model)
        self.steps: dict[Any, RecordedStep | None] = {}  # by the shapes of their inputs; None if they came once
        self.memories: dict[Any, StaticMemory] = {}  # by their shapes
        self.recorded = self.bytes = 0
        self.can_record = isinstance(model, nn.Module)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Tree, memory: Tree
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Tree]:
        """Compute the model's `step`."""
        key = describe_shapes((tokens, state)), describe_shapes(memory)
        step = self.steps.get(key)
        if step is None and self.can_record and key in self.steps:
            step = self.steps[key] = self._record(tokens, state, memory, key[1])
        if step is None:
            self.steps[key] = None
            return self.model.step(tokens, state, memory)
        step.memory.set(memory)
        copy_tensors((step.tokens, step.state), (tokens, state))
        step.replay()
        outputs = map_tensors(torch.empty_like, step.outputs)
        copy_tensors(outputs, step.outputs)
        return outputs

    def forget_memory(self) -> None:
        """Copy the next memory in any case: since the last search the tensors of the last one may have changed."""
        for memory in self.memories.values():
            memory.copied = []

    # replays are called inside and outside of inference mode, whose tensors cannot be written outside of it
    @torch.inference_mode(False)
    @torch.no_grad()
    def _record(self, tokens: Tensor, state: Tree, memory: Tree, shapes: Any) -> RecordedStep | None:
        """Return the recorded step for inputs of these shapes; None if it cannot be recorded."""
        tokens, state = map_tensors(torch.clone, (tokens, state))
        shared = self.memories.get(shapes) or StaticMemory(memory)
        try:
            with torch.cuda.device_of(tokens), keep_random_numbers(tokens.device):
                replay, outputs = self.record(lambda: self.model.step(tokens, state, shared.copy))
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            name = type(self.model).__name__
            log.warning(
                "a decoding step of %s cannot be recorded as a CUDA graph and is computed plainly (%s)", name, reason
            )
            self.can_record = False
            return None
        kept = [tokens, state, outputs] if shapes in self.memories else [tokens, state, outputs, shared.copy]
        self.memories[shapes] = shared
        self.recorded += 1
        self.bytes += sum(part.numel() * part.element_size() for part in iterate_tensors(kept))
        self.can_record = self.recorded < MAX_GRAPHS and self.bytes < MAX_BYTES
        return RecordedStep(replay, tokens, state, shared, outputs)


class DecodingGraphs:
    """The recorded decoding steps of models, which are kept from one search to the next.

    Args:
        make_recorder: makes what records the steps of one model; it records CUDA graphs unless given.
    """

    def __init__(self, make_recorder: Callable[[], Record] | None = None) -> None:
        self.needs_gpu = make_recorder is None
        self.make_recorder = make_recorder or (lambda: CudaRecorder(refuses_waits=True))
        self.models: dict[int, GraphedModel] = {}  # by the identity of the models, which they keep

    def can_record(self, device: torch.device) -> bool:
        """Return whether steps on a device can be recorded: a model may be moved to the CPU after a training."""
        return device.type == "cuda" or not self.needs_gpu

    def start(self, model: DecodableModel) -> GraphedModel:
        """Return a model whose steps are replayed, for one search; graphs are lost if what they depend on changed."""
        graphed = self.models.get(id(model))
        if graphed is None or graphed.place != find_place(model):
            graphed = self.models[id(model)] = GraphedModel(model, self.make_recorder())
        graphed.forget_memory()
        return graphed


def find_place(model: Any) -> tuple[Any, ...]:
    """Return where a model's weights are, and what else its graphs depend on.

    Graphs keep the numbers that are not tensors. A module whose numbers may change tells them by `step_numbers`.
    """
    if not isinstance(model, nn.Module):
        return ()
    weights = itertools.chain(model.parameters(), model.buffers())
    numbers = (tuple(getattr(module, "step_numbers", ())) for module in model.modules())
    return (model.training, *numbers, *((weight.data_ptr(), weight.dtype) for weight in weights))
