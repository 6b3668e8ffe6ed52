"""Callbacks of Lightning's trainer."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.callbacks.checkpoints import LastCheckpoint as LastCheckpoint
    from attendgen.callbacks.early_stopping import EarlyStopping as EarlyStopping
    from attendgen.callbacks.ema import EMA as EMA
    from attendgen.callbacks.finite_loss import FiniteLoss as FiniteLoss
    from attendgen.callbacks.gradient_norm import GradientNorm as GradientNorm
    from attendgen.callbacks.hyperparameters import Hyperparameters as Hyperparameters
    from attendgen.callbacks.log_interval import LogInterval as LogInterval
    from attendgen.callbacks.log_samples import LogSamples as LogSamples
    from attendgen.callbacks.media import ImageLogger as ImageLogger
    from attendgen.callbacks.media import TextLogger as TextLogger
    from attendgen.callbacks.progress import Progress as Progress
    from attendgen.callbacks.step_seed import StepSeed as StepSeed
    from attendgen.callbacks.throughput import Throughput as Throughput

__all__ = [
    "EMA",
    "EarlyStopping",
    "FiniteLoss",
    "GradientNorm",
    "Hyperparameters",
    "ImageLogger",
    "LastCheckpoint",
    "LogInterval",
    "LogSamples",
    "Progress",
    "StepSeed",
    "TextLogger",
    "Throughput",
]

_PUBLIC = {
    "EMA": "ema",
    "EarlyStopping": "early_stopping",
    "FiniteLoss": "finite_loss",
    "GradientNorm": "gradient_norm",
    "Hyperparameters": "hyperparameters",
    "ImageLogger": "media",
    "LastCheckpoint": "checkpoints",
    "LogInterval": "log_interval",
    "LogSamples": "log_samples",
    "Progress": "progress",
    "StepSeed": "step_seed",
    "TextLogger": "media",
    "Throughput": "throughput",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
