"""Training steps as CUDA graphs: forward and backward pass are recorded once per shape of batch, and then replayed.

A step of a small model consists of hundreds of kernels, each of which takes the processor longer to launch than the GPU
to run. A recorded graph is launched as one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from attendgen.data.batch import CaptionBatch, PairBatch, TableBatch, WindowBatch, round_length
from attendgen.layers.graphs import (
    MAX_GRAPHS,
    MULTIPLE,
    CudaRecorder,
    Record,
    Replay,
    Tree,
    copy_tensors,
    describe_shapes,
    keep_random_numbers,
)
from attendgen.layers.state import map_tensors
from attendgen.utils.errors import UserError

if TYPE_CHECKING:
    from attendgen.tasks.base import BaseTask, LossTerm


class Passes(NamedTuple):
    """What a forward and a backward pass leave in memory.

    Attributes:
        terms: of the loss.
        gradients: of the trained parameters; None if the loss does not depend on one.
        carried: the state for the next batch, if the task has one.
    """

    terms: dict[str, "LossTerm"]
    gradients: list[Tensor | None]
    carried: Tree


class StepGraph(NamedTuple):
    """A recorded step, with the memory it reads and the memory it writes."""

    replay: Replay
    batch: Tree
    carried: Tree
    passes: Passes


class GraphedSteps:
    """Computes a task's loss and gradients by replaying graphs.

    Args:
        task: what is trained; its loss must not depend on numbers that the processor reads from the GPU.
        record: runs a function once to record it, and returns what runs it again; a CUDA graph unless given.
    """

    def __init__(self, task: "BaseTask[Any]", record: Record | None = None) -> None:
        self.task = task
        self.record = record or CudaRecorder()
        self.graphs: dict[Any, StepGraph] = {}
        self.last: StepGraph | None = None  # whose gradients are still to be handed over

    def __call__(self, batch: Tree) -> dict[str, "LossTerm"] | None:
        """Return the terms of a batch's loss, without a gradient; None if this batch has no graph.

        Raises:
            UserError: the step cannot be recorded.
        """
        carried = self.task.get_carried(batch)
        batch = pad_to_multiple(batch, MULTIPLE)
        key = describe_shapes((batch, carried))
        if key not in self.graphs:
            if len(self.graphs) == MAX_GRAPHS:
                return None
            self.graphs[key] = self.capture(batch, carried)
        graph = self.graphs[key]
        copy_tensors((graph.batch, graph.carried), (batch, carried))
        graph.replay()
        self.task.set_carried(graph.passes.carried)
        self.last = graph
        terms = graph.passes.terms
        values = torch.stack([term.value for term in terms.values()])  # a copy: the next replay writes there again
        return {name: term._replace(value=value) for (name, term), value in zip(terms.items(), values, strict=True)}

    def capture(self, batch: Tree, carried: Tree) -> StepGraph:
        """Record the step of a batch.

        Raises:
            UserError: the step cannot be recorded.
        """
        batch, carried = map_tensors(torch.clone, (batch, carried))

        def run() -> Passes:
            self.task.set_carried(carried)
            return compute_passes(self.task, batch)

        try:
            with keep_state(self.task):
                replay, passes = self.record(run)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"trainer.compile=true: a step of {type(self.task).__name__} with "
                f"{type(self.task.model).__name__} cannot be recorded as a CUDA graph; leave it out ({reason})"
            ) from error
        return StepGraph(replay, batch, carried, passes)

    def hand_over_gradients(self, batches: int = 1) -> bool:
        """Add the gradients of the last replay to those of the parameters; return whether there was one.

        Args:
            batches: of the optimizer step, over which gradients are averaged; they are copied if there are several,
                because the next replay writes there again.
        """
        if self.last is None:
            return False
        for parameter, gradient in zip(list_trained(self.task), self.last.passes.gradients, strict=True):
            if gradient is not None and parameter.grad is None:
                parameter.grad = gradient if batches == 1 else gradient / batches
            elif gradient is not None and parameter.grad is not None:
                parameter.grad.add_(gradient, alpha=1 / batches)
        self.last = None
        return True


def compute_passes(task: "BaseTask[Any]", batch: Tree) -> Passes:
    """Compute a loss and its gradients."""
    terms, loss = task.compute_loss(batch)
    trained = list_trained(task)
    with torch.autocast(loss.device.type, enabled=False):  # as Lightning's backward pass
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    detached = {name: term._replace(value=term.value.detach()) for name, term in terms.items()}
    return Passes(detached, separate(gradients, trained), task.get_carried(batch))


def separate(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Return gradients as `backward` leaves them: each in memory of its own, with the strides of its parameter.

    Two summands have one tensor as their gradient, which clipping would scale twice.
    """
    taken: list[tuple[int, int]] = []
    separated: list[Tensor | None] = []
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is not None:
            begin, end = find_memory(gradient)
            is_shared = any(begin < other_end and other < end for other, other_end in taken)
            if is_shared or gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            taken.append(find_memory(gradient))
        separated.append(gradient)
    return separated


def find_memory(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses at which the memory of a tensor begins and ends."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def list_trained(task: "BaseTask[Any]") -> list[torch.nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in task.parameters() if parameter.requires_grad]


@contextmanager
def keep_state(task: "BaseTask[Any]") -> Iterator[None]:
    """Let buffers and random numbers stand afterwards as before: recording runs the step several times."""
    buffers = [(buffer, buffer.clone()) for buffer in task.buffers()]
    with keep_random_numbers(task.device):
        yield
    for buffer, before in buffers:
        buffer.copy_(before)


def pad_to_multiple(batch: Tree, multiple: int) -> Tree:
    """Return a batch whose texts are padded to lengths that `multiple` divides; a stream stays as it is."""
    if not isinstance(batch, CaptionBatch | PairBatch | TableBatch | WindowBatch):
        return batch
    batch = batch._replace(inputs=round_length(batch.inputs, multiple), outputs=round_length(batch.outputs, multiple))
    if isinstance(batch, TableBatch):
        return batch._replace(cells=map_tensors(lambda part: round_length(part, multiple), batch.cells))
    if isinstance(batch, WindowBatch):
        return batch._replace(context=round_length(batch.context, multiple))
    return batch._replace(source=round_length(batch.source, multiple)) if isinstance(batch, PairBatch) else batch
