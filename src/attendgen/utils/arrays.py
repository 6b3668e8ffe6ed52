"""Arrays on disk: whole ones are told from damaged ones, and their space is reserved before they are written."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attendgen.utils.errors import UserError, describe_refusal


def is_whole(path: Path, shape: Sequence[int | None] = ()) -> bool:
    """Return whether an `.npy` file holds a whole array.

    Args:
        shape: its first dimensions; None is any number.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # fails if the file is shorter than its header says
    except Exception:  # numpy reads the header as Python
        return False
    found = getattr(array, "shape", ())
    return len(found) >= len(shape) and all(a is None or a == b for a, b in zip(shape, found, strict=False))


def reserve_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...], what: str) -> np.memmap:
    """Make an array on disk whose space is reserved, so that writing to it cannot fail for want of space.

    Args:
        what: the content, for the message.

    Raises:
        UserError: the disk has not enough space.
    """
    needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(
            f"{path.parent}: {what} need {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free; "
            "make room, or set another folder"
        )
    array: np.memmap = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate") and needed:
        with path.open("rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise UserError(
                    f"{path.parent}: {what} need {needed / 1e6:.0f} MB: {describe_refusal(error)}"
                ) from error
    return array
