"""Checks of settings that would otherwise fail deep inside a library, with a message that names no field."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig

from attendgen.config.saved import to_plain_dict
from attendgen.utils.errors import UserError

OWN = ("attendgen.", "torch.optim.")  # classes of the user's own may give these names another meaning
SIZES = ("hidden", "embedding_dim", "encoder_hidden", "dim", "layers", "heads")
RATES = ("lr", "muon_lr", "weight_decay")
GPUS = ("gpu", "cuda", "mps")


def check_ranges(config: DictConfig) -> None:
    """Check the sizes of a model, the rates of its optimizer and the devices of the trainer.

    Raises:
        UserError: one is out of range.
    """
    plain = to_plain_dict(config)
    for group in ("model", "task", "callbacks"):
        for field, name, value in _iterate_own_fields(plain.get(group), group):
            _check_value(field, name, value)
    trainer = config.trainer
    if trainer.get("devices") in (0, "0"):
        raise UserError(f"trainer.devices={trainer.devices}: expected a number from 1")
    share = trainer.get("share", 1)
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"trainer.share={share}: expected a number above 0, up to 1")
    clip = trainer.get("gradient_clip_val")
    if clip is not None and not (isinstance(clip, int | float) and clip >= 0):
        raise UserError(f"trainer.gradient_clip_val={clip}: expected a number from 0, or null for no limit")
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if trainer.get("accelerator") in GPUS and not has_gpu:
        raise UserError(f"trainer.accelerator={trainer.accelerator}: there is no GPU here; use trainer=cpu")


def _iterate_own_fields(settings: Any, prefix: str) -> Iterator[tuple[str, str, object]]:  # noqa: ANN401  # plain data
    """Yield the fields of classes of AttendGen and of torch's optimizers, with their names and values."""
    if not isinstance(settings, dict):
        return
    is_own = str(settings.get("_target_", "")).startswith(OWN)
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _iterate_own_fields(value, f"{prefix}.{name}")
        elif is_own:
            yield f"{prefix}.{name}", name, value


def _check_value(field: str, name: str, value: object) -> None:
    """Check a field by its name."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if name in SIZES and value is not None and not (isinstance(value, int) and is_whole and value >= 1):
        raise UserError(f"{field}={value}: expected a whole number from 1")
    if name == "warmup" and not (isinstance(value, int) and is_whole and value >= 0):
        raise UserError(f"{field}={value}: expected a whole number of steps from 0")
    if name == "patience" and not (isinstance(value, int) and is_whole and value >= 0):
        raise UserError(f"{field}={value}: expected a whole number of validations from 0")
    if name.endswith("dropout") and not (isinstance(value, int | float) and 0 <= value <= 1):
        raise UserError(f"{field}={value}: expected a probability from 0 to 1")
    if name in RATES and not (isinstance(value, int | float) and 0 <= value < float("inf")):
        raise UserError(f"{field}={value}: expected a number from 0")
