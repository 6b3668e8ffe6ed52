"""Hyperparameters beside the final score in TensorBoard's hparams view."""

from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, (int, float, str, bool)):
            flat[name] = value
    return flat


class Hyperparameters(lightning.Callback):
    """Logs the settings of model, task, data and trainer, and keeps the best score so far as `final/<metric>`."""

    def __init__(self, config: dict[str, Any], metric: str) -> None:
        groups = ("model", "task", "data", "trainer")
        self.settings = {"seed": config["seed"], **flatten({group: config[group] for group in groups})}
        self.metric = metric
        self.name = f"final/{metric.rpartition('/')[2]}"

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            # the metric must be declared with the first hyperparameters or the view leaves it out
            trainer.logger.log_hyperparams(self.settings, {self.name: float("nan")})

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        checkpoint = trainer.checkpoint_callback
        best = getattr(checkpoint, "best_model_score", None)
        if isinstance(trainer.logger, TensorBoardLogger) and best is not None:
            trainer.logger.log_metrics({self.name: float(best)}, trainer.global_step)
