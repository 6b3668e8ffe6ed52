"""Random numbers that depend on the training step alone."""

from typing import Any

import lightning
import numpy as np
import torch


class StepSeed(lightning.Callback):
    """Seed torch before each training batch from the run's seed, the epoch, the batch and the process.

    Dropout and samples of a step are then the same whether the run was interrupted before it or not, and differ between
    processes, without any generator's state to be saved.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch."""
        where = (self.seed, trainer.global_rank, trainer.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(where).generate_state(1, np.uint64)[0]))
