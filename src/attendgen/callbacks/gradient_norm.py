"""The norm of the gradient, in the log."""

import lightning
import torch


class GradientNorm(lightning.Callback):
    """Log the Euclidean norm of all gradients before clipping, at the steps that are logged."""

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm."""
        # Lightning writes what was logged in the steps whose number, counted from one, this divides
        if (trainer.global_step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
