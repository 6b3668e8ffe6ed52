"""The device and the precision with which a trained model computes."""

from typing import Any

import torch

from attendgen.utils.errors import UserError

PRECISIONS = ("32", "bf16")


def find_device(name: str | torch.device) -> torch.device:
    """Return a device by its name: "cpu", "cuda" or "cuda:N"; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UserError: the name is unknown, or there is no such GPU.
    """
    name = str(name)
    count = torch.cuda.device_count()
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (name != "cuda" and not number.isdecimal()):
        raise UserError(f"--device {name}: unknown; choose auto, cpu, cuda or cuda:N")
    if not count:
        raise UserError(f"--device {name}: PyTorch finds no GPU; use cpu or auto")
    if int(number or 0) >= count:
        raise UserError(f"--device {name}: there are {count} GPUs, numbered from 0; use cuda:{count - 1} at most")
    return torch.device("cuda", int(number or 0))


def require_precision(name: str) -> str:
    """Return the name of a precision.

    Raises:
        UserError: it is unknown.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: unknown; choose {' or '.join(PRECISIONS)}")
    return name


def allow_tf32(device: torch.device) -> None:
    """Let a GPU's matrix products of single precision use TF32; on a CPU this setting would take slow paths."""
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")


def autocast(device: torch.device, precision: str) -> Any:
    """Return a context in which single-precision weights compute in a precision of `PRECISIONS`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
