"""The speed and the memory of a training, in the log."""

import resource
import sys
import time

import lightning
import torch
from torch import Tensor

from attendgen.data.batch import Batch, is_token


class Throughput(lightning.Callback):
    """Log samples and target tokens per second, and the peak memory, at the steps that are logged.

    Rates are summed over processes. They include waiting for data, but not validation.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.tokens: Tensor | int = 0  # kept on the device: reading it makes the processor wait
        self.seconds = 0.0
        self.since = 0.0
        self.logged = 0  # the step of the last entry: of accumulated batches only the last makes a step

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.since = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock."""
        self._lap()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock again."""
        self.since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count a batch and log at logged steps."""
        self.samples += len(batch.outputs)
        self.tokens = self.tokens + is_token(batch.outputs).sum()
        step = trainer.global_step
        if step == self.logged or step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self.logged = step
        tokens = float(self.tokens)  # waits for the device: the time is that of the work
        self._lap()
        rates = {"samples_per_second": self.samples / self.seconds, "tokens_per_second": tokens / self.seconds}
        for name, rate in rates.items():
            pl_module.log(f"throughput/{name}", rate, reduce_fx="sum", sync_dist=True)
        pl_module.log("memory/process_gib", measure_peak_gib())
        if pl_module.device.type == "cuda":
            pl_module.log("memory/gpu_gib", torch.cuda.max_memory_allocated(pl_module.device) / 2**30)
        self.samples, self.tokens, self.seconds = 0, 0, 0.0

    def _lap(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self.since
        self.since = now


def measure_peak_gib() -> float:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
