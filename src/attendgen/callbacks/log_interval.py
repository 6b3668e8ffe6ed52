"""How often a short training logs."""

import math
from typing import Any

import lightning

POINTS = 5  # that a curve has at least


class LogInterval(lightning.Callback):
    """Log a training of few steps more often than `trainer.log_every_n_steps` says, so that its loss has a curve."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shorten the interval."""
        steps = trainer.estimated_stepping_batches
        interval: Any = trainer  # its connector of loggers sets this attribute
        if math.isfinite(steps) and steps > 0 and interval.log_every_n_steps:
            interval.log_every_n_steps = max(1, min(interval.log_every_n_steps, int(steps) // POINTS))
