"""Loggers from a config: one, or several in a list or by name; a resumed run's loggers continue from its checkpoint."""

import contextlib
import csv
import os
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from omegaconf import DictConfig, ListConfig

from attendgen.config.instantiate import instantiate
from attendgen.utils.errors import UserError
from attendgen.utils.files import replacing


def make_loggers(config: DictConfig | ListConfig | None, step: int | None) -> list[Logger]:
    """Make the loggers that a config names.

    Args:
        step: of the checkpoint that a run is continued from: what was logged from it on is dropped, what was logged
            before stays. None starts a new run.

    Raises:
        UserError: a logger refuses its settings, or a new run would delete the lines of another one.
    """
    if not config:
        return []
    single = isinstance(config, DictConfig) and "_target_" in config
    parts: list[Any] = [config] if single else list(config.values() if isinstance(config, DictConfig) else config)
    return [_make_logger(part, step) for part in parts if part]


def _make_logger(config: DictConfig, step: int | None) -> Logger:
    kind = get_object(config._target_)
    if step is not None and isinstance(kind, type) and issubclass(kind, TensorBoardLogger):
        return instantiate(config, "logger", purge_step=step)
    logger = instantiate(config, "logger")
    if isinstance(logger, CSVLogger) and os.environ.get("LOCAL_RANK", "0") == "0":
        lines = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
        if step is not None:
            logger._experiment = ContinuedWriter(logger.log_dir, step)
        elif lines.exists():
            raise UserError(f"{lines}: holds the log of another run; give another logger.save_dir or logger.version")
    return logger


class ContinuedWriter(ExperimentWriter):
    """Write on in a CSV file, which Lightning would delete, after its lines from before a step."""

    def __init__(self, log_dir: str, step: int) -> None:
        self.step = step
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if self._is_before(row)]
        self.metrics_keys = sorted(reader.fieldnames or ["step"])  # the order that Lightning keeps
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def _is_before(self, row: dict[str, Any]) -> bool:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return int(row["step"]) < self.step
        return True
