"""How often decoding waits for its device, and how it moves numbers there without waiting."""

from collections.abc import Sequence

import torch
from torch import Tensor

INTERVAL = 4  # tokens between two questions to a GPU, which the host waits for until all before is computed


def get_interval(device: torch.device) -> int:
    """Return after how many tokens decoding asks whether outputs have ended: on a CPU after each."""
    return 1 if device.type == "cpu" else INTERVAL


def send(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Return whole numbers as a tensor on a device."""
    return torch.tensor(numbers, dtype=torch.long).to(device, non_blocking=True)
