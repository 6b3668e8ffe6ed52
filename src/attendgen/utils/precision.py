"""The precision of matrix products."""

from typing import Any

import torch

from attendgen.utils.errors import UserError

PRECISIONS = ("32", "bf16")


def set_matmul_precision(device: torch.device) -> None:
    """Let products of float32 matrices run as TF32 on the tensor cores of a GPU, and in full precision elsewhere.

    Training, evaluation and inference all call this, so that a validation and a later evaluation agree. On a CPU the
    lower precision would take slow paths.
    """
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")


def require_precision(name: str) -> str:
    """Return the name of a precision.

    Raises:
        UserError: it is unknown.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: unknown; choose {' or '.join(PRECISIONS)}")
    return name


def autocast(device: torch.device, precision: str) -> Any:
    """Return a context in which single-precision weights compute in a precision of `PRECISIONS`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
