"""What a training leaves when it ends: its best score, its cost, and how it ended."""

import logging
import math
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from omegaconf import DictConfig

from attendgen.runs.layout import FIT_METRICS
from attendgen.runs.status import COMPLETE, STOPPED_EARLY, RunStatus, end_session
from attendgen.utils.files import write_json

log = logging.getLogger(__name__)


def get_best_score(trainer: lightning.Trainer) -> float:
    """Return the best monitored score; NaN if there was none."""
    monitors = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    best = monitors[0].best_model_score if monitors else None
    return float("nan") if best is None else float(best)


def get_begun_epochs(trainer: lightning.Trainer) -> int:
    """Return the number of epochs, in all sessions of the run; the last one may have ended within."""
    return trainer.fit_loop.epoch_progress.current.ready


def count(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def describe_end(trainer: lightning.Trainer) -> RunStatus:
    """Return why a training that has ended did so."""
    amount = f"{count(get_begun_epochs(trainer), 'epoch')}, {count(trainer.global_step, 'step')}"
    fit = trainer.fit_loop
    at_last_step = fit.max_steps != -1 and trainer.global_step >= fit.max_steps
    at_last_epoch = fit.max_epochs not in (None, -1) and trainer.current_epoch >= fit.max_epochs
    if at_last_step or at_last_epoch or not trainer.should_stop:
        return RunStatus(COMPLETE, amount)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            return RunStatus(STOPPED_EARLY, _describe_early_stopping(callback))
    has_timer = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return RunStatus(COMPLETE, f"{'time is up' if has_timer else 'stopped by a callback'}, {amount}")


def _describe_early_stopping(callback: EarlyStopping) -> str:
    if callback.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED:
        return f"no better {callback.monitor} for {callback.wait_count} validations"
    return " ".join((callback.stopping_reason_message or f"by {callback.monitor}").split())


def write_summary(
    config: DictConfig, folder: Path, trainer: lightning.Trainer, score: float, seconds: dict[str, float]
) -> None:
    """Write the best score and the cost of the training, and how it ended; log them and where the run is."""
    metric = config.monitor.metric
    parameters = trainer.lightning_module.parameters()
    summary = {
        metric: score if math.isfinite(score) else None,  # JSON has no NaN
        "steps": trainer.global_step,
        "epochs": get_begun_epochs(trainer),
        "trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **seconds,
    }
    status = describe_end(trainer)
    write_json(folder / FIT_METRICS, summary)
    end_session(folder, status, steps=trainer.global_step, fit_seconds=seconds["fit_seconds"])
    log.info("%s; best %s %.4g; %d steps in %.1f s", status, metric, score, trainer.global_step, seconds["fit_seconds"])
    log.info("run: %s", folder)
