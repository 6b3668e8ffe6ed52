"""Checkpoints that are whole or absent, hold plain data, and load without unrestricted pickle."""

import contextlib
import logging
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attendgen.errors import UserError
from attendgen.files import replacing

log = logging.getLogger(__name__)

RECORD = "attendgen"  # the checkpoint's key for what rebuilds the model
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # what a run is continued from, and what if that is broken


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name and renames it, so that being killed leaves the one before.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with replacing(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"{path}: cannot be written: {reason}; the checkpoints before it are kept") from error


class RunRecord(lightning.Callback):
    """Puts the resolved config and the vocabulary, as plain data, into every checkpoint."""

    def __init__(self, config: dict[str, Any], vocabulary: dict[str, Any]) -> None:
        self.record = {"config": config, "vocabulary": vocabulary}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RECORD] = self.record


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint's contents on the CPU.

    Args:
        mapped: leave the tensors in the file, for the little that stands beside them.

    Raises:
        UserError: the file is missing, broken, or not one of AttendGen's.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    checkpoint = None
    with contextlib.suppress(Exception):  # torch raises a dozen kinds for what is one mistake
        mapped = mapped and zipfile.is_zipfile(path)  # torch's older format cannot be mapped
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: broken, or not a checkpoint that loads as plain weights")
    if RECORD not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"{path}: field '{RECORD}' is missing: not a checkpoint of AttendGen")
    record = checkpoint[RECORD]
    if not isinstance(record, dict) or not {"config", "vocabulary"} <= record.keys():
        raise UserError(f"{path}: field '{RECORD}' holds no config and vocabulary: not a checkpoint of AttendGen")
    return checkpoint


class Saved(NamedTuple):
    """A whole checkpoint, the steps that it was saved after, and the states of the callbacks."""

    path: Path
    step: int
    callbacks: Any


def newest_checkpoint(folder: Path) -> Saved | None:
    """The last checkpoint of a folder, the one before if that is broken, or None if there is none at all.

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
                    log.warning("%s; going on from %s", broken, path)
                return Saved(path, checkpoint["global_step"], checkpoint.get("callbacks"))
    if broken:
        raise broken
    return None
