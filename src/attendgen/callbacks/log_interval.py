"""How often a short training logs."""

import math
from typing import Any

import lightning

POINTS = 5  # that a curve has at least


class LogInterval(lightning.Callback):
    """Let a training of fewer steps than `trainer.log_every_n_steps` log, so that its loss has a curve."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shorten the interval."""
        steps = trainer.estimated_stepping_batches
        interval: Any = trainer  # its connector of loggers sets this attribute
        if math.isfinite(steps) and 0 < steps < interval.log_every_n_steps:
            interval.log_every_n_steps = max(1, int(steps) // POINTS)
