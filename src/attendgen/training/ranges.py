"""Checks of settings that would otherwise fail deep inside a library, with a message that names no field."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig

from attendgen.config.saved import to_plain_dict
from attendgen.utils.errors import UserError

OWN = ("attendgen.", "torch.optim.")  # classes of the user's own may give these names another meaning
SIZES = ("hidden", "embedding_dim", "encoder_hidden", "dim", "layers", "heads")
MOST_RATE = 1e38  # a float32 can hold it
RATES = ("lr", "muon_lr", "weight_decay")
GPUS = ("gpu", "cuda", "mps")


def check_ranges(config: DictConfig) -> None:
    """Check the sizes of a model, the rates of its optimizer, what is true or false, and the devices of the trainer.

    Raises:
        UserError: one is out of range.
    """
    plain = to_plain_dict(config)
    for group in ("model", "task", "callbacks"):
        for field, name, value in _iterate_own_fields(plain.get(group), group):
            _check_value(field, name, value)
    for group in ("data", "model", "task", "callbacks"):
        _check_booleans(plain.get(group), group)
    trainer = config.trainer
    if trainer.get("limit_train_batches", 1) == 0:
        raise UserError("trainer.limit_train_batches=0: nothing would be trained; give a number from 1, or a share")
    steps = trainer.get("accumulate_grad_batches", 1)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UserError(f"trainer.accumulate_grad_batches={steps}: expected a whole number from 1")
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
    if name == "minutes" and not (isinstance(value, int | float) and value >= 0):
        raise UserError(f"{field}={value}: expected a number of minutes from 0")
    if name in RATES and not (isinstance(value, int | float) and 0 <= value < math.inf):
        raise UserError(f"{field}={value}: expected a number from 0")
    if name in RATES and isinstance(value, int | float) and value > MOST_RATE:
        raise UserError(f"{field}={value}: expected a number up to {MOST_RATE:g}")


def _check_booleans(settings: Any, prefix: str) -> None:  # noqa: ANN401  # plain data
    """Check the true-or-false arguments of AttendGen's classes: any word would count as true."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        _check_booleans(value, f"{prefix}.{name}")
    target = str(settings.get("_target_", ""))
    if not target.startswith(OWN):
        return
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except (HydraException, ImportError, TypeError, ValueError):
        return  # what makes the object reports it
    for name, value in settings.items():
        if name in parameters and parameters[name].annotation in (bool, "bool") and not isinstance(value, bool):
            raise UserError(f"{prefix}.{name}={value}: expected true or false")
