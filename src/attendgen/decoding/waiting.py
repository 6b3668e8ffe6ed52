"""How often decoding waits for its device, and how it moves numbers there without waiting."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

INTERVAL = 4  # tokens between two waits for a GPU, which last until all before is computed


def get_interval(device: torch.device) -> int:
    """Return after how many tokens decoding reads whether outputs have ended: on a CPU after each."""
    return 1 if device.type == "cpu" else INTERVAL


def is_read(length: int, interval: int) -> bool:
    """Return whether decoding reads after so many tokens which outputs have ended.

    The host waits for a GPU after 8, 12, 16, ... tokens. The length of the outputs is read at the same time, so outputs
    of 4 tokens or more cost at most one wait in 4 tokens, the last wait included.
    """
    return length % interval == 0 and (interval == 1 or length > interval)


def send(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """Return whole numbers, or rows of them, as a tensor on a device."""
    return torch.tensor(numbers, dtype=torch.long).to(device, non_blocking=True)
