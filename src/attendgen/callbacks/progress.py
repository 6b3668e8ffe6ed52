"""The progress of a training: a bar on a terminal, plain lines in a file."""

import sys
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from attendgen.utils.progress import Progress as Counter

EVERY = 30.0  # seconds between two lines within an epoch


class Progress(TQDMProgressBar):
    """Lightning's progress bar; where standard output is no terminal, a line per validation and every half minute.

    Args:
        refresh_rate: steps between two updates of the bar.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate)
        self.is_plain = not sys.stdout.isatty()
        self.shown = self.started = time.monotonic()
        if self.is_plain:
            self.disable()

    def on_train_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        """Start the clock."""
        super().on_train_start(trainer, *rest)
        self.shown = self.started = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *rest: Any) -> None:
        """Print a line now and then."""
        super().on_train_batch_end(trainer, pl_module, *rest)
        if time.monotonic() - self.shown > EVERY:
            self.print_line(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *rest: Any
    ) -> None:
        """Print a line now and then, also while a validation decodes."""
        super().on_validation_batch_end(trainer, pl_module, *rest)
        if trainer.state.fn == "fit" and time.monotonic() - self.shown > EVERY:
            self.print_line(trainer, pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print a line with the scores."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit":
            self.print_line(trainer, pl_module, validated=True)

    def print_line(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, validated: bool = False
    ) -> None:
        """Print epoch, step and loss, and after a validation its scores, in the first process alone."""
        if not self.is_plain or not trainer.is_global_zero:
            return
        self.shown = time.monotonic()
        numbers = {
            name: value
            for name, value in self.get_metrics(trainer, pl_module).items()
            if name != "v_num" and (validated or not name.startswith("val/"))  # else they are of the last validation
        }
        scores = ", ".join(f"{name} {_format(value)}" for name, value in numbers.items())
        seconds = self.shown - self.started
        place = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        print(f"{place}, {seconds:.0f} s: {scores}" if scores else f"{place}, {seconds:.0f} s", flush=True)


class ValidationProgress(Callback):
    """The batches of a validation without training, on standard error, so that standard output holds scores alone."""

    def __init__(self) -> None:
        self.counter: Counter | None = None

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to count, in the first process alone."""
        if trainer.is_global_zero:
            total = sum(trainer.num_val_batches)
            self.counter = Counter("evaluation", "batches", None if total == float("inf") else int(total)).__enter__()

    def on_validation_batch_end(self, *rest: Any) -> None:
        """Count a batch."""
        if self.counter is not None:
            self.counter.add(1)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar, so that the message begins a line."""
        self._close()

    def _close(self) -> None:
        if self.counter is not None:
            self.counter.__exit__()
            self.counter = None


def _format(value: object) -> str:
    try:
        return f"{float(value):.4g}"  # type: ignore[arg-type]  # a number, or a text
    except (TypeError, ValueError):
        return str(value)
