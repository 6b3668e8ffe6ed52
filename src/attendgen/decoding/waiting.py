"""How often decoding waits for its device, and how it moves numbers there without waiting."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

INTERVAL = 4  # tokens between two questions to a GPU, which the host waits for until all before is computed


def get_interval(device: torch.device) -> int:
    """Return after how many tokens decoding asks whether outputs have ended: on a CPU after each."""
    return 1 if device.type == "cpu" else INTERVAL


def is_asked(length: int, interval: int) -> bool:
    """Return whether decoding asks after so many tokens.

    A GPU is asked after 8, 12, 16, ... tokens. An answer also says how long outputs are, so an output of 4 tokens or
    more costs at most one question in 4 of its tokens, the last question included.
    """
    return length % interval == 0 and (interval == 1 or length > interval)


def send(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """Return whole numbers, or rows of them, as a tensor on a device."""
    return torch.tensor(numbers, dtype=torch.long).to(device, non_blocking=True)
