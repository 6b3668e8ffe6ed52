"""What stands for a CUDA graph without a GPU: a function that is called again and writes into the same memory."""

from collections.abc import Callable
from typing import Any

import torch

from attendgen.layers.graphs import Record, Replay, copy_tensors
from attendgen.layers.state import map_tensors

LOST = 111  # what other functions leave in the memory of one


class RerunRecorder:
    """Records a function by calling it, and replays it by another call that writes into the same memory.

    The outputs of all other functions are lost then, as if they shared this memory.

    Attributes:
        recorded, replayed: how often that was done.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self.memories: list[Any] = []

    def __call__(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        self.recorded += 1
        memory = map_tensors(torch.clone, function())
        self.memories.append(memory)

        def replay() -> None:
            self.replayed += 1
            for other in self.memories:
                map_tensors(lambda part: part.fill_(LOST), other)
            copy_tensors(memory, function())

        return replay, memory


def make_refusing_recorder() -> Record:
    """Return a recorder of functions that cannot be recorded."""

    def refuse(function: Callable[[], Any]) -> Any:
        raise RuntimeError("called a synchronizing CUDA operation\nmore")

    return refuse
