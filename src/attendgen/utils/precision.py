"""The precision of matrix products."""

import torch


def set_matmul_precision(device: torch.device) -> None:
    """Let products of float32 matrices run as TF32 on the tensor cores of a GPU, and in full precision elsewhere.

    Training, evaluation and inference all call this, so that a validation and a later evaluation agree. On a CPU the
    lower precision would take slow paths.
    """
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
