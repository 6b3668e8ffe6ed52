"""Writing checkpoints that are whole or absent, and hold plain data."""

import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attendgen.runs.layout import FIT_SECONDS, RECORD
from attendgen.utils.errors import UserError, describe_refusal
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
            reason = (
                describe_refusal(error) if isinstance(error, OSError) else f"{str(error).splitlines()[0]}; make room"
            )
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

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the best checkpoint of a run that was moved or copied be the one in its new folder.

        Lightning forgets the best score otherwise, and would replace a better checkpoint by a worse one.
        """
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state and state.get("dirpath") and callback.dirpath:
                _move_state(state, Path(callback.dirpath))


def _move_state(state: dict[str, Any], folder: Path) -> None:
    """Change the folder in the state of a `ModelCheckpoint`."""

    def move(name: str) -> str:
        return str(folder / Path(name).name) if name else name

    state["dirpath"] = str(folder)
    for field in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[field] = move(state.get(field, ""))
    state["best_k_models"] = {move(name): score for name, score in state.get("best_k_models", {}).items()}
