"""The checkpoint from which a run resumes, whatever ends it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from attendgen.runs.layout import LAST, PREVIOUS
from attendgen.utils.errors import Interrupted

# clusters announce the end of a job by one of the last three
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class LastCheckpoint(Checkpoint):
    """Save `last.ckpt` at the end of every epoch and every few minutes within it, and keep the previous one.

    Only whole training steps are saved: a resumed run ends with the weights of an uninterrupted one. After the first
    SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 the current step ends, is saved, and `Interrupted` is raised; a validation stops
    at once, and the run resumes from the checkpoint before it. A second signal has its usual effect. Several processes
    look for signals and save in the steps that are logged (`trainer.log_every_n_steps`) and at the end of an epoch.

    Args:
        folder: of the checkpoints.
        minutes: between saves within an epoch.
    """

    def __init__(self, folder: str, minutes: int | float = 10) -> None:
        self.folder = Path(folder)
        self.minutes = minutes
        self.saved = time.monotonic()
        self.received: int | None = None
        self.handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock and handle signals."""
        self.saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():  # the only one that may
            self.handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Restore the signals' handlers."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for again in SIGNALS:
            signal.signal(again, signal.default_int_handler if again == signal.SIGINT else signal.SIG_DFL)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time or a signal has come."""
        # the end of the epoch saves for itself, and gradients that wait for more batches are not saved
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        # several processes must agree, which makes them wait for their devices and for each other
        if trainer.world_size > 1 and trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        stopped, due = self._agree(trainer, time.monotonic() - self.saved >= 60 * self.minutes)
        if stopped or due:
            self._save(trainer)
        if stopped:
            raise Interrupted(stopped, trainer.global_step)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        """Stop a validation at a signal."""
        # processes differ in their number of batches here, so several of them cannot agree
        if self.received is not None and trainer.world_size == 1:
            raise Interrupted(self.received, trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, and stop at a signal."""
        with contextlib.nullcontext() if trainer.is_last_batch else _within_epoch(trainer):
            self._save(trainer)
        stopped, _ = self._agree(trainer, False)
        if stopped:
            raise Interrupted(stopped, trainer.global_step)

    def _agree(self, trainer: lightning.Trainer, due: bool) -> tuple[int, bool]:
        """Return the signal that any process has received, or 0, and whether any of them is due to save."""
        if trainer.world_size == 1:
            return self.received or 0, due
        state = torch.tensor([self.received or 0, int(due)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(state, torch.distributed.ReduceOp.MAX)
        return int(state[0]), bool(state[1])

    def _save(self, trainer: lightning.Trainer) -> None:
        new, last = self.folder / "next.ckpt", self.folder / LAST
        trainer.save_checkpoint(new, weights_only=False)  # the optimizer, too
        if trainer.is_global_zero:
            if last.exists():
                last.replace(self.folder / PREVIOUS)
            new.replace(last)
        trainer.strategy.barrier()
        self.saved = time.monotonic()


@contextlib.contextmanager
def _within_epoch(trainer: lightning.Trainer) -> Iterator[None]:
    """Let Lightning's counters stand as after a step within an epoch, where a run of more steps goes on.

    A training that ends within an epoch has called the hooks of the epoch's end, so Lightning counts the epoch.
    """
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    epochs = (fit.epoch_progress.current, fit.epoch_progress.total)
    batches = (loop.batch_progress.current, loop.batch_progress.total)

    def add(number: int) -> None:
        for progress in epochs:
            progress.processed += number  # type: ignore[attr-defined]
        for progress in batches:
            progress.completed += number
        loop._batches_that_stepped += number

    add(-1)
    try:
        yield
    finally:
        add(1)
