"""A model's weights as a safetensors file that is small enough to travel: in half precision, or rounded to 8 bits."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attendgen.files import replacing

SCALE = ".scale"  # ends the name of the steps in which a matrix's rows were rounded
STEPS = 127  # from zero to a row's largest weight


def save_weights(model: nn.Module, path: Path, bits: int = 16) -> None:
    """Write a model's weights, tied ones once.

    Args:
        bits: of a weight: 16 is half precision; at 8 each row of a matrix is rounded to multiples of its own step, a
            127th of its largest weight, and all else is in half precision.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in _once(model):
        if bits == 8 and value.ndim == 2 and value.is_floating_point():
            step = value.float().abs().amax(dim=1, keepdim=True) / STEPS
            step = step.masked_fill(step == 0, 1.0).half()
            tensors[name] = (value / step.float()).round().clamp(-STEPS, STEPS).to(torch.int8)
            tensors[name + SCALE] = step
        else:
            tensors[name] = value.half() if value.is_floating_point() else value
    with replacing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights that `save_weights` wrote into a model.

    Raises:
        RuntimeError: they are those of another model.
    """
    stored = load_file(path)
    tensors = {
        name: value * stored[name + SCALE].float() if name + SCALE in stored else value
        for name, value in stored.items()
        if not name.endswith(SCALE)
    }
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    state = model.state_dict()
    given = {state[name].data_ptr() for name in tensors if name in state}
    missing = [name for name in missing if state[name].data_ptr() not in given]  # but for tied ones
    if missing or unexpected:
        raise RuntimeError(f"missing: {', '.join(missing) or '-'}; not known: {', '.join(unexpected) or '-'}")


def _once(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights by name; those that share their memory with one before are left out."""
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen or not value.numel():
            seen.add(value.data_ptr())
            yield name, value.detach()
