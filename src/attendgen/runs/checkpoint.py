"""Reading checkpoints, which hold plain data, without unrestricted pickle."""

import contextlib
import logging
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attendgen.runs.layout import FIT_SECONDS, LAST, PREVIOUS, RECORD
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Return a checkpoint's contents on the CPU.

    Args:
        mapped: leave the tensors in the file, to read what is beside them.

    Raises:
        UserError: the file is missing, broken, or not a checkpoint of AttendGen.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; give the path of a .ckpt file or a run directory")
    checkpoint = None
    with contextlib.suppress(Exception):  # torch raises a dozen kinds for what is one mistake
        mapped = mapped and zipfile.is_zipfile(path)  # torch's older format cannot be mapped
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"{path}: broken, or not a checkpoint that loads as plain weights; "
            f"give another of the run, such as checkpoints/{PREVIOUS if path.name == LAST else LAST}"
        )
    if RECORD not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"{path}: field '{RECORD}' is missing; give a checkpoint of AttendGen")
    record = checkpoint[RECORD]
    if not isinstance(record, dict) or not {"config", "vocabulary"} <= record.keys():
        raise UserError(f"{path}: field '{RECORD}' holds no config and vocabulary; give a checkpoint of AttendGen")
    return checkpoint


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a file of named tensors, on the CPU.

    Raises:
        UserError: the file is missing, or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for what is one mistake
        raise UserError(
            f"{path}: broken, or not a file that loads as plain weights; copy or download it again"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError(f"{path}: not a state dict: expected tensors by name")
    return weights


class SavedCheckpoint(NamedTuple):
    """A whole checkpoint: the step after which it was saved, the states of the callbacks, the seconds of training."""

    path: Path
    step: int
    callbacks: Any
    fit_seconds: float


def find_newest_checkpoint(folder: Path) -> SavedCheckpoint | None:
    """Return the last checkpoint of a folder, the previous one if that is broken, or None if there is none.

    Raises:
        UserError: there are some, but all of them are broken.
    """
    broken: UserError | None = None
    for name in (LAST, PREVIOUS):
        path = folder / name
        if path.is_file():
            try:
                checkpoint = read_checkpoint(path)
            except UserError as error:
                broken = broken or error
            else:
                if broken:
                    log.warning("%s; resuming from %s", broken, path)
                seconds = checkpoint[RECORD].get(FIT_SECONDS)
                seconds = seconds if isinstance(seconds, float) else 0.0
                return SavedCheckpoint(path, checkpoint["global_step"], checkpoint.get("callbacks"), seconds)
    if broken:
        raise broken
    return None
