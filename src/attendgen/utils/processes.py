"""What the processes of one run tell each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def has_several_processes() -> bool:
    """Return whether other processes train or evaluate the same model."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gather_parts(part: Any) -> list[Any]:
    """Return the parts that all processes hold, which are plain data."""
    if not has_several_processes():
        return [part]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return parts


def gather_outputs(outputs: dict[int, Any]) -> dict[int, Any]:
    """Return the union of all processes' outputs by example, so that each example counts once."""
    return {index: output for part in gather_parts(outputs) for index, output in part.items()}


def add_up(values: Tensor) -> Tensor:
    """Return the sums of numbers over all processes; the host does not wait for them."""
    if has_several_processes():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


def average(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of numbers over all processes, by one reduction."""
    if not has_several_processes():
        return dict(values)
    means = add_up(torch.stack(list(values.values()))) / torch.distributed.get_world_size()
    return dict(zip(values, means.unbind(), strict=True))


@torch.no_grad()
def average_tensors(tensors: Sequence[Tensor]) -> None:
    """Replace each of some tensors by its mean over all processes, by one reduction."""
    means = add_up(torch.cat([tensor.flatten() for tensor in tensors])) / torch.distributed.get_world_size()
    sizes = [tensor.numel() for tensor in tensors]
    parts = [part.view_as(tensor) for part, tensor in zip(means.split(sizes), tensors, strict=True)]
    torch._foreach_copy_(list(tensors), parts)
