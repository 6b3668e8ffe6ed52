"""Which of a machine's GPUs, or which share of one, a trial of a sweep may use."""

import contextlib
import math
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from attendgen.utils.errors import UserError
from attendgen.utils.files import lock

SLOTS = 60  # lock files per GPU: halves, thirds, quarters, fifths and sixths of a GPU are whole numbers of them


def list_visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]


def uses_gpus(accelerator: str) -> bool:
    """Return whether a trainer with this accelerator computes on GPUs of this machine."""
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def make_lock_folder() -> Path:
    """Make the folder of locks that all sweeps of a user on this machine share.

    Raises:
        UserError: the folder is someone else's, who could then delete the locks.
    """
    folder = Path(tempfile.gettempdir(), f"attendgen-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(f"{folder}: not a folder of your own; remove it, or set TMPDIR to another place")
    return folder


@contextlib.contextmanager
def reserve_gpus(count: int, locks: Path, share: int | float = 1, pause: float = 1.0) -> Iterator[list[str]]:
    """Reserve `count` visible GPUs, or a share of each, that no other trial has; wait while there are too few.

    The least used GPUs are chosen.

    Args:
        locks: a folder that all trials on this machine share; the kernel frees a dead trial's locks.
        share: of each GPU, up to 1.
        pause: seconds between two attempts.

    Raises:
        UserError: the machine has fewer.
    """
    names = list_visible_gpus()
    if count > len(names):
        raise UserError(f"trainer.devices={count}: this machine shows {len(names)} GPUs; use fewer devices")
    needed = math.ceil(share * SLOTS - 1e-6)
    while True:
        with ExitStack() as held:
            chosen = hold_least_used(held, names, count, needed, locks)
            if chosen:
                yield chosen
                return
        # nothing is held while waiting: two trials that each lack a GPU must not wait for each other
        time.sleep(pause)


def hold_least_used(held: ExitStack, names: list[str], count: int, needed: int, locks: Path) -> list[str]:
    """Hold locks of the GPUs with the most free slots, and return these GPUs; none if there are too few.

    Args:
        held: takes over the locks.
        needed: number of slots of each.
    """
    with ExitStack() as rest:
        free = {name: take_free_slots(name, locks) for name in names}
        for slots in free.values():
            for slot in slots:
                rest.push(slot)
        chosen = sorted(names, key=lambda name: -len(free[name]))[:count]
        if len(free[chosen[-1]]) < needed:
            return []
        for name in chosen:
            for slot in free[name][:needed]:
                held.push(slot.pop_all())
        return chosen


def take_free_slots(name: str, locks: Path) -> list[ExitStack]:
    """Lock all slots of a GPU that no other trial has locked."""
    taken = []
    for number in range(SLOTS):
        path = locks / f".gpu-{socket.gethostname()}-{name}-{number}.lock"  # machines may share the folder
        with contextlib.suppress(BlockingIOError), ExitStack() as slot:
            slot.enter_context(lock(path, wait=False))
            taken.append(slot.pop_all())
    return taken
