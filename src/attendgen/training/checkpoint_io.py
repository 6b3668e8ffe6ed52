"""Writing checkpoints that are whole or absent, and hold plain data."""

import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attendgen.runs.layout import FIT_SECONDS, RECORD
from attendgen.utils.errors import UserError
from attendgen.utils.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under a temporary name and rename it, so that a killed process leaves the previous one.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Save a checkpoint."""
        try:
            with replacing(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"{path}: cannot be written: {reason}; the earlier checkpoints are kept") from error


class RunRecord(lightning.Callback):
    """Put the config and the vocabulary, as plain data, and the seconds of training into every checkpoint.

    Args:
        seconds: of training before this session, which the checkpoint that it continues from holds.
    """

    def __init__(self, config: dict[str, Any], vocabulary: dict[str, Any], seconds: float = 0.0) -> None:
        self.record = {"config": config, "vocabulary": vocabulary}
        self.seconds = seconds
        self.started: float | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def get_seconds(self) -> float:
        """Return the seconds of training so far, over all sessions."""
        return self.seconds + (0.0 if self.started is None else time.monotonic() - self.started)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record."""
        checkpoint[RECORD] = {**self.record, FIT_SECONDS: self.get_seconds()}
