"""A note of a warm-up that a training cannot finish."""

import logging
from typing import Any

import lightning

log = logging.getLogger(__name__)


class WarmupNote(lightning.Callback):
    """Log at the start if the learning rate's warm-up is longer than the training."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare the schedule with the steps of the training."""
        schedule: Any = getattr(pl_module, "schedule", None)
        given, used = getattr(schedule, "given_warmup", 0), getattr(schedule, "warmup", 0)
        steps = trainer.estimated_stepping_batches
        if used < given:
            log.warning(
                "task.schedule.warmup=%d: longer than the %d steps of the training; shortened to %d",
                *(given, schedule.steps, used),
            )
        elif used > steps:
            log.warning(
                "task.schedule.warmup=%d: the training ends after %d steps, within its warm-up; try a warm-up of %d",
                *(used, steps, int(steps) // 10),
            )
