"""Stop a training that has diverged before it is saved."""

from typing import Any

import lightning
import torch

from attendgen.utils.errors import DivergedError

OVERFLOWS = 20  # consecutive losses that are not finite, after which lowering the scale of gradients has not helped


class FiniteLoss(lightning.Callback):
    """Raise `DivergedError`, which names the step and the batch, if the loss is NaN or infinite.

    One process on a CPU checks every step. Otherwise, where a check waits for the device and for other processes, the
    logged steps are checked, and always before a validation or a checkpoint, so that saved weights are finite.

    With a scaler of gradients (`trainer.precision=16-mixed`), which skips the step of a batch that overflows, the
    training ends after 20 such losses in a row, or if a weight is not finite.
    """

    def __init__(self) -> None:
        self.losses: list[tuple[int, int, torch.Tensor]] = []  # since the last check, with their steps and batches
        self.row: list[tuple[int, int]] = []  # steps and batches of the last losses, none of which is finite

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss, and check it if that takes no time."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.losses.append((trainer.global_step, batch_idx, loss.detach()))
        is_cheap = loss.device.type == "cpu" and trainer.world_size == 1
        if is_cheap or not (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
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
        if not self.losses:
            return
        finite = torch.stack([loss for _, _, loss in self.losses]).isfinite().int()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        most = OVERFLOWS if has_scaler(trainer) else 1
        for (step, batch, _), is_finite in zip(self.losses, finite.tolist(), strict=True):
            self.row = [] if is_finite else [*self.row, (step, batch)]
            if len(self.row) >= most:
                self._stop(trainer)
        if self.row and not has_finite_weights(trainer.lightning_module):
            self._stop(trainer)
        self.losses = []

    def _stop(self, trainer: lightning.Trainer) -> None:
        step, batch = self.row[0]
        raise DivergedError(
            f"the loss is not finite at step {step}, batch {batch} of epoch {trainer.current_epoch}; "
            "the last good checkpoint is kept: resume with a lower task.optimizer.lr or trainer.gradient_clip_val"
        )


def has_scaler(trainer: lightning.Trainer) -> bool:
    """Return whether gradients are scaled, and steps whose gradients overflow are skipped."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def has_finite_weights(module: torch.nn.Module) -> bool:
    """Return whether no trainable weight is NaN or infinite."""
    return all(bool(weight.isfinite().all()) for weight in module.parameters() if weight.requires_grad)
