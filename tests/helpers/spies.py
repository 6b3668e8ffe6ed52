"""Callbacks that tests add to a training."""

from pathlib import Path

import lightning
import torch

from attendgen.layers.hard_attention import CategoricalSampler


class SampledLocations(lightning.Callback):
    """Write to `folder/RANK.pt` what hard attention samples from uniform weights in the first training step."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: torch.Tensor
    ) -> None:
        if trainer.global_step:
            return
        weights = CategoricalSampler()(torch.full((400, 64), 1 / 64))
        torch.save(weights, self.folder / f"{trainer.global_rank}.pt")
