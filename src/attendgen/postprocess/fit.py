"""What fitting on a split needs, beside its own optimization."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import open_data
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask

Batches = Callable[[], Iterable[Any]]  # returns all batches of a split, anew at each call


def open_task(run: Run, config: DictConfig, model: nn.Module, split: str) -> tuple[BaseTask[Any], Batches]:
    """Return a task that scores a model on the batches of a split, and these batches, on the model's device.

    Raises:
        UserError: the split does not exist, or its files are missing or broken.
    """
    task: BaseTask[Any] = instantiate(config.task, "task", model=model, vocabulary=run.vocabulary)
    data = open_data(config.data, run.vocabulary, get_image_encoder(model), split)
    device = get_device(task)

    def move_batches() -> Iterator[Any]:
        return (task.transfer_batch_to_device(batch, device, 0) for batch in data.val_dataloader())

    # a task keeps tensors of its own
    return task.to(device).eval(), move_batches


def get_device(module: nn.Module) -> torch.device:
    """Return the device of a module's weights; the CPU if it has none."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))
