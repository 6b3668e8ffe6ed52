"""An exponential moving average of the weights."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from attendgen.utils.errors import UserError

CURRENT, NUMBER = "current_weights", "updates"  # in a checkpoint: the weights of training, the length of the average


class EMA(lightning.Callback):
    """Average the weights over about the last 1 / (1 - decay) steps (Polyak and Juditsky 1992).

    Validation, the best checkpoint and everything done with a run use the average; training continues from its own
    weights. The decay of step n is min(decay, (1 + n) / (10 + n)), so that the initial weights are forgotten quickly.

    The average has the device of the weights, and one call updates all of it, without waiting for the device. Weights
    that are not trained have no average.

    Args:
        decay: of the average per step, between 0 and 1.

    Raises:
        UserError: the decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f"callbacks.ema.decay={decay}: must lie between 0 and 1")
        self.decay = decay
        self.updates = 0
        self.step = 0  # after which the average was last updated: of accumulated batches only the last makes a step
        self.current: list[Tensor] = []
        self.averaged: list[Tensor] = []
        self.loaded: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the average where the weights are by now, from a checkpoint's if training is resumed."""
        names = find_averaged(pl_module)
        self.current = list(names.values())
        self.averaged = [value.detach().clone() for value in self.current]
        if self.loaded is not None:
            for name, value in zip(names, self.averaged, strict=True):
                value.copy_(self.loaded[name])
            self.loaded = None

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the average after an optimizer step."""
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        # the first update replaces the initial weights
        share = max(9 / (10 + self.updates), 1 - self.decay) if self.updates else 1.0
        torch._foreach_lerp_(self.averaged, self.current, share)
        self.updates += 1

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the average in the place of the weights."""
        self._swap()

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the weights back."""
        self._swap()

    @torch.no_grad()
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the average in the model."""
        if self.averaged:
            torch._foreach_copy_(self.current, self.averaged)

    @torch.no_grad()
    def _swap(self) -> None:
        if self.averaged:  # else nothing is trained: a validation alone
            kept = [value.clone() for value in self.current]
            torch._foreach_copy_(self.current, self.averaged)
            torch._foreach_copy_(self.averaged, kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates and the step of the last one."""
        return {NUMBER: self.updates, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the number of updates and the step of the last one."""
        self.updates, self.step = state_dict[NUMBER], state_dict["step"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model's weights, and the weights of training beside it."""
        averaged = {id(value): mean for value, mean in zip(self.current, self.averaged, strict=True)}
        named = pl_module.state_dict(keep_vars=True)  # also the second name of a weight that has two
        weights = checkpoint["state_dict"]
        checkpoint[CURRENT] = {name: weights[name] for name, value in named.items() if id(value) in averaged}
        changed = {name: averaged[id(named[name])] for name in checkpoint[CURRENT]}
        checkpoint["state_dict"] = {**weights, **changed}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load the weights of training; the average is loaded when its device is known."""
        if CURRENT in checkpoint:  # else the run was trained without an average, which begins here
            self.loaded = {name: checkpoint["state_dict"][name].clone() for name in checkpoint[CURRENT]}
            pl_module.load_state_dict(checkpoint[CURRENT], strict=False)


def find_averaged(task: nn.Module) -> dict[str, Tensor]:
    """Return what is averaged, by its first name in a checkpoint: trainable parameters and buffers of real numbers."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in task.state_dict(keep_vars=True).items():
        is_trained = value.requires_grad if isinstance(value, nn.Parameter) else value.is_floating_point()
        if is_trained:
            found.setdefault(id(value), (name, value))
    return dict(found.values())
