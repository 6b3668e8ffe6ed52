"""What fitting on a split needs, beside its own optimization."""

from collections.abc import Callable, Iterable
from typing import Any

from omegaconf import DictConfig
from torch import nn

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import open_data
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask

Batches = Callable[[], Iterable[Any]]  # returns all batches of a split, anew at each call


def open_task(run: Run, config: DictConfig, model: nn.Module, split: str) -> tuple[BaseTask[Any], Batches]:
    """Return a task that scores a model on the batches of a split, and these batches.

    Raises:
        UserError: the split does not exist, or its files are missing or broken.
    """
    task: BaseTask[Any] = instantiate(config.task, "task", model=model, vocabulary=run.vocabulary)
    data = open_data(config.data, run.vocabulary, get_image_encoder(model), split)
    return task.eval(), data.val_dataloader
