"""Early stopping that waits for the warm-up of the learning rate."""

import lightning
from lightning.pytorch import callbacks


class EarlyStopping(callbacks.EarlyStopping):
    """Stop when the monitored score has not improved for `patience` validations; those of the warm-up do not count.

    The arguments are Lightning's. A score that stays while the learning rate still rises does not mean that the
    training has converged.
    """

    def _run_early_stopping_check(self, trainer: lightning.Trainer) -> None:
        warmup = getattr(getattr(trainer.lightning_module, "schedule", None), "warmup", 0)
        if trainer.global_step <= warmup:
            self.wait_count = -1  # this validation makes it 0
        super()._run_early_stopping_check(trainer)
