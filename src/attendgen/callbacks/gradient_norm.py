"""The norm of the gradient, in the log."""

import lightning
import torch

from attendgen.tasks.base import is_logged_step


class GradientNorm(lightning.Callback):
    """Log the Euclidean norm of all gradients before clipping, at the steps that are logged."""

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the norm."""
        if not is_logged_step(trainer):
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))
