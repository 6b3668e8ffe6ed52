"""Which of a machine's GPUs a trial of a sweep may use."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from attendgen.utils.errors import UserError
from attendgen.utils.files import lock


def list_visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]


def uses_gpus(accelerator: str) -> bool:
    """Return whether a trainer with this accelerator computes on GPUs of this machine."""
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


@contextlib.contextmanager
def reserve_gpus(count: int, locks: Path, pause: float = 1.0) -> Iterator[list[str]]:
    """Reserve `count` visible GPUs that no other trial has reserved; wait while there are too few.

    Args:
        locks: a folder that all trials share; the kernel frees a dead trial's locks.
        pause: seconds between two attempts.

    Raises:
        UserError: the machine has fewer.
    """
    names = list_visible_gpus()
    if count > len(names):
        raise UserError(f"trainer.devices={count}: this machine shows {len(names)} GPUs; use fewer devices")
    while True:
        with contextlib.ExitStack() as stack:
            held: list[str] = []
            for name in names:
                path = locks / f".gpu-{socket.gethostname()}-{name}.lock"  # machines may share the folder
                try:
                    stack.enter_context(lock(path, wait=False))
                except BlockingIOError:
                    continue
                held.append(name)
                if len(held) == count:
                    break
            if len(held) == count:
                yield held
                return
        # release what was reserved: two trials that each lack one must not wait for each other
        time.sleep(pause)
