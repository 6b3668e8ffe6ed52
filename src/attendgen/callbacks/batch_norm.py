"""The running statistics of batch normalization, over all processes."""

from typing import Any

import lightning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attendgen.utils.processes import average_tensors, has_several_processes


class SharedStatistics(lightning.Callback):
    """Give all processes the mean of their running statistics after each batch.

    Without `trainer.sync_batchnorm` each process normalizes by the statistics of its own part of a batch, and keeps
    their running mean: processes would validate with different models, and a resumed run would go on with those of the
    first process. Synchronized layers have the same statistics everywhere, so nothing is left to do.
    """

    def __init__(self) -> None:
        self.statistics: list[Tensor] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Find the statistics that training changes."""
        self.statistics = find_statistics(pl_module) if has_several_processes() else []

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Average them; the host does not wait for it."""
        if self.statistics:
            average_tensors(self.statistics)


def find_statistics(module: nn.Module) -> list[Tensor]:
    """Return the running means and variances that training changes in each process by itself."""
    layers = (layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training)
    own = (layer for layer in layers if not isinstance(layer, nn.SyncBatchNorm))
    return [part for layer in own for part in (layer.running_mean, layer.running_var) if part is not None]
