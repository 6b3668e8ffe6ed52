"""Checkpoints that are whole or absent, hold plain data, and load without unrestricted pickle."""

import contextlib
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from attendgen.errors import UserError
from attendgen.files import replacing

RECORD = "attendgen"  # the checkpoint's key for what rebuilds the model


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name and renames it, so that being killed leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class RunRecord(lightning.Callback):
    """Puts the resolved config and the vocabulary, as plain data, into every checkpoint."""

    def __init__(self, config: dict[str, Any], vocabulary: dict[str, Any]) -> None:
        self.record = {"config": config, "vocabulary": vocabulary}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RECORD] = self.record


class RandomState(lightning.Callback):
    """Keeps torch's stream of random numbers in the checkpoint, so that a resumed run draws as if never stopped."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.loaded is None:
            return
        if trainer.world_size > 1:  # the first process wrote the checkpoint: its stream must not become everyone's
            torch.manual_seed(self.loaded["cpu"].sum().item() + trainer.global_rank)
            return
        torch.set_rng_state(self.loaded["cpu"].cpu())
        if self.loaded["cuda"] and torch.cuda.device_count() == len(self.loaded["cuda"]):
            torch.cuda.set_rng_state_all([state.cpu() for state in self.loaded["cuda"]])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents on the CPU.

    Raises:
        UserError: the file is missing, broken, or not one of AttendGen's.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    checkpoint = None
    with contextlib.suppress(Exception):  # torch raises a dozen kinds for what is one mistake
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: broken, or not a checkpoint that loads as plain weights")
    if RECORD not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(f"{path}: field '{RECORD}' is missing: not a checkpoint of AttendGen")
    return checkpoint
