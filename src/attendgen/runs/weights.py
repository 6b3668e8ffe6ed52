"""Weights as small safetensors files: in half precision, or in 8 or 4 bits."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Float16, Int8, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attendgen.utils.errors import UserError
from attendgen.utils.files import replacing

SCALE = ".scale"  # ends the name of the step sizes of a matrix's rows
STEPS = {8: 127, 4: 7}  # number of steps up to a row's largest weight
ZERO = 8  # four bits have no sign: the code of zero


def save_weights(model: nn.Module, path: Path, bits: int = 16, four_bits: str | None = None) -> None:
    """Write a model's weights, tied ones once.

    Args:
        bits: per weight: 16 is half precision; at 8 each row of a matrix is rounded to multiples of its own step, a
            127th of its largest weight, and all else is in half precision.
        four_bits: a regular expression; the matrices whose names it finds have 4 bits, multiples of a seventh of the
            largest weight, which suits large embedding tables.

    Raises:
        UserError: it finds no matrix, or one with an odd number of columns.
    """
    tensors: dict[str, Tensor] = {}
    found = False
    for name, value in _iterate_weights(model):
        matrix = value.ndim == 2 and value.is_floating_point()
        if matrix and four_bits is not None and re.search(four_bits, name):
            if value.size(1) % 2:
                raise UserError(f"--four-bits {four_bits}: {name} has {value.size(1)} columns; expected an even number")
            rounded, tensors[name + SCALE] = _round(value, STEPS[4])
            tensors[name] = _pack(rounded)
            found = True
        elif matrix and bits == 8:
            tensors[name], tensors[name + SCALE] = _round(value, STEPS[8])
        else:
            tensors[name] = value.half() if value.is_floating_point() else value
    if four_bits is not None and not found:
        raise UserError(
            f"--four-bits {four_bits}: finds no matrix of the model; give a regular expression of their names"
        )
    with replacing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights that `save_weights` wrote into a model.

    Raises:
        RuntimeError: they belong to another model.
    """
    stored = load_file(path)
    tensors = {name: value for name, value in stored.items() if not name.endswith(SCALE)}
    for name, value in tensors.items():
        if name + SCALE in stored:
            rounded = _unpack(value) if value.dtype == torch.uint8 else value
            tensors[name] = rounded * stored[name + SCALE].float()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    state = model.state_dict()
    given = {state[name].data_ptr() for name in tensors if name in state}
    missing = [name for name in missing if state[name].data_ptr() not in given]  # except tied ones
    if missing or unexpected:
        raise RuntimeError(f"missing: {', '.join(missing) or '-'}; not known: {', '.join(unexpected) or '-'}")


def _round(
    value: Float[Tensor, "rows columns"], steps: int
) -> tuple[Int8[Tensor, "rows columns"], Float16[Tensor, "rows 1"]]:
    """Return a matrix as multiples of its rows' steps, and the steps."""
    step = value.float().abs().amax(dim=1, keepdim=True) / steps
    step = step.masked_fill(step == 0, 1.0).half()
    return (value / step.float()).round().clamp(-steps, steps).to(torch.int8), step


def _pack(rounded: Int8[Tensor, "rows columns"]) -> UInt8[Tensor, "rows pairs"]:
    """Pack two numbers of 4 bits per byte, the first in the low bits."""
    positive = (rounded + ZERO).to(torch.uint8)
    return positive[:, ::2] | positive[:, 1::2] << 4


def _unpack(packed: UInt8[Tensor, "rows pairs"]) -> Int8[Tensor, "rows 2*pairs"]:
    """Invert `_pack`."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1).to(torch.int8) - ZERO


def _iterate_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by name; of tied weights only the first."""
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in seen or not value.numel():
            seen.add(value.data_ptr())
            yield name, value.detach()
