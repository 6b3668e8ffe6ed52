"""Settings and final scores of a run in its loggers, in TensorBoard's in the hparams view."""

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from attendgen.callbacks.guard import Guard
from attendgen.callbacks.media import log_settings
from attendgen.runs.layout import TRIAL, read_overrides


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, (int, float, str, bool)):
            flat[name] = value
    return flat


# settings that do not change the result of a run
NOT_LOGGED = ("callbacks", "hydra", "isolate", "logger", "paths", "sweep")


class Hyperparameters(lightning.Callback):
    """Log a run's settings, and the scores of its best checkpoint as `final/<name>`.

    TensorBoard's view needs the names of the scores, so it gets the settings at the first validation; in a sweep it
    gets only those given on the command line, because the full config would hide them.
    """

    def __init__(self, config: dict[str, Any], metric: str) -> None:
        self.config = flatten(config)
        groups = ("model", "task", "data", "trainer")
        self.settings = {"seed": config["seed"], **flatten({group: config[group] for group in groups})}
        self.metric = metric
        self.validations: list[dict[str, float]] = []
        self.names: list[str] = []
        self.guard = Guard("the hyperparameters are")

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the settings in all loggers but TensorBoard's."""
        settings = {name: value for name, value in self.config.items() if name.split(".")[0] not in NOT_LOGGED}
        for logger in trainer.loggers:
            if trainer.is_global_zero and not isinstance(logger, TensorBoardLogger):
                with self.guard():
                    log_settings(logger, settings)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remember the scores, and log the settings once."""
        if trainer.sanity_checking:
            return
        split = f"{self.metric.partition('/')[0]}/"
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(split)}
        self.validations.append(scores)
        if not self.names:
            self._declare(trainer, list(scores))

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the scores of the best checkpoint."""
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is None:
            return
        if not self.names:  # a resumed run that had no epoch left
            self._declare(trainer, [self.metric])
        # of a resumed run the best validation may have been before
        at_best = next((scores for scores in self.validations if scores.get(self.metric) == float(best)), {})
        final = {**at_best, self.metric: float(best)}
        scores = {name_final_score(name): final[name] for name in self.names if name in final}
        for logger in trainer.loggers:
            with self.guard():
                logger.log_metrics(scores, trainer.global_step)

    def _declare(self, trainer: lightning.Trainer, names: list[str]) -> None:
        # a metric that is not declared with the first hyperparameters is left out of the view
        self.names = sorted({self.metric, *names}, key=lambda name: (name != self.metric, name))
        declared = {name_final_score(name): float("nan") for name in self.names}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                with self.guard():
                    logger.log_hyperparams(self._choose(Path(trainer.default_root_dir)), declared)

    def _choose(self, folder: Path) -> dict[str, Any]:
        """Return the settings for TensorBoard's view."""
        given = {key: value for key, value in read_overrides(folder).items() if key.split(".")[0] not in NOT_LOGGED}
        # numbers as numbers; the command line has text
        settings = {key: self.config.get(key, value) for key, value in given.items()}
        return settings if (folder / TRIAL).exists() else settings | self.settings


def name_final_score(name: str) -> str:
    """Return a score's name in the view, such as final/bleu for val/bleu."""
    return f"final/{name.partition('/')[2]}"
