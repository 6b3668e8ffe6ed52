"""Writing checkpoints that are whole or absent, and hold plain data."""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attendgen.runs.layout import RECORD
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
    """Put the config and the vocabulary, as plain data, into every checkpoint."""

    def __init__(self, config: dict[str, Any], vocabulary: dict[str, Any]) -> None:
        self.record = {"config": config, "vocabulary": vocabulary}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record."""
        checkpoint[RECORD] = self.record
