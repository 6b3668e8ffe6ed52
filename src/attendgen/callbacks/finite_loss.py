"""Stop a training that has diverged before it is saved."""

from typing import Any

import lightning
import torch

from attendgen.utils.errors import DivergedError


class FiniteLoss(lightning.Callback):
    """Raise `DivergedError`, which names the step and the batch, if the loss is NaN or infinite.

    On a CPU every step is checked. On other devices, where a check waits for the device, the logged steps are checked,
    and always before a validation or a checkpoint, so that saved weights are finite.
    """

    def __init__(self) -> None:
        self.first: torch.Tensor | None = None  # step and batch of the first loss that is not finite; -1 if none

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember the first loss that is not finite."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if self.first is None:
            self.first = torch.full((2,), -1, device=loss.device)
        now = torch.tensor([trainer.global_step, batch_idx]).to(loss.device, non_blocking=True)
        self.first = torch.where(torch.isfinite(loss) | (self.first[0] >= 0), self.first, now)
        if loss.device.type == "cpu" or not (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.check(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check before a validation."""
        self.check(trainer)

    def on_save_checkpoint(self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Check before a checkpoint."""
        self.check(trainer)

    def check(self, trainer: lightning.Trainer) -> None:
        """Check the losses of all processes.

        Raises:
            DivergedError: a loss is not finite.
        """
        if self.first is None:
            return
        seen = self.first.clone()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(seen, torch.distributed.ReduceOp.MAX)
        step, batch = seen.tolist()
        if step >= 0:
            raise DivergedError(
                f"the loss is not finite at step {step}, batch {batch} of epoch {trainer.current_epoch}; "
                "the last good checkpoint is kept: resume with a lower task.optimizer.lr or trainer.gradient_clip_val"
            )
