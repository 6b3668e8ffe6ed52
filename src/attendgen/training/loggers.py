"""Loggers from a config, by name; a resumed run's loggers continue from its checkpoint."""

import contextlib
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from omegaconf import DictConfig

from attendgen.config.instantiate import instantiate
from attendgen.runs.layout import LOGGERS
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, replacing, write_json
from attendgen.utils.packages import require_packages
from attendgen.utils.ranks import get_rank

PACKAGES: dict[type[Logger], str] = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}
ID_FIELDS: dict[type[Logger], tuple[str, ...]] = {WandbLogger: ("id", "version"), MLFlowLogger: ("run_id",)}


def make_loggers(config: object, folder: Path, step: int | None) -> dict[str, Logger]:
    """Make the loggers that a config names.

    Args:
        folder: of the run.
        step: of the checkpoint that a run is continued from: what was logged from it on is dropped, what was logged
            before stays. None starts a new run.

    Raises:
        UserError: the config is not loggers by name, a logger refuses its settings or its package is missing, or a new
            run would delete the lines of another one.
    """
    if not config:
        return {}
    if not isinstance(config, DictConfig) or "_target_" in config:
        raise UserError("logger: expected loggers by name, as {csv: {_target_: ...}}")
    ids = read_json(folder / LOGGERS) if step is not None and (folder / LOGGERS).is_file() else {}
    return {str(name): _make_logger(str(name), part, ids.get(name), step) for name, part in config.items() if part}


def _make_logger(name: str, config: DictConfig, own_id: str | None, step: int | None) -> Logger:
    field, given, kind = f"logger.{name}", {}, _get_kind(config)
    if kind in PACKAGES:
        require_packages({PACKAGES[kind]: "loggers"})
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow refuses local files
        if own_id and not any(config.get(id_field) for id_field in ID_FIELDS[kind]):
            given[ID_FIELDS[kind][0]] = own_id
    if kind is TensorBoardLogger and step is not None:
        given["purge_step"] = step  # type: ignore[assignment]
    logger: Logger = instantiate(config, field, **given)
    if not isinstance(logger, Logger):
        raise UserError(f"{field}: {type(logger).__name__} is not a logger of Lightning; derive it from one")
    if isinstance(logger, CSVLogger) and get_rank() == 0:
        lines = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
        if step is not None:
            logger._experiment = ContinuedWriter(logger.log_dir, step)
        elif lines.exists():
            raise UserError(f"{lines}: holds the log of another run; give another {field}.save_dir or {field}.version")
    return logger


def _get_kind(config: DictConfig) -> type[Logger] | None:
    """Return the kind of logger that a config makes; None for one of the user's own or one that does not exist."""
    with contextlib.suppress(Exception):  # `instantiate` reports what is wrong
        made = get_object(config["_target_"])
        kinds = (TensorBoardLogger, WandbLogger, MLFlowLogger)
        return next((kind for kind in kinds if isinstance(made, type) and issubclass(made, kind)), None)
    return None


def save_ids(folder: Path, loggers: Mapping[str, Logger]) -> None:
    """Write the ids of runs on the servers of loggers, so that a resumed run continues them."""
    ids = {
        name: str(logger.version)
        for name, logger in loggers.items()
        if isinstance(logger, (WandbLogger, MLFlowLogger)) and logger.experiment is not None
    }
    if ids:
        write_json(folder / LOGGERS, ids)


def describe_places(loggers: Sequence[Logger]) -> list[str]:
    """Return how to look at what each logger has written."""
    return [place for place in map(_describe_place, loggers) if place]


def _describe_place(logger: Logger) -> str | None:
    if isinstance(logger, TensorBoardLogger):
        return f"tensorboard --logdir {logger.log_dir}"
    if isinstance(logger, CSVLogger):
        return str(Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE))
    if isinstance(logger, WandbLogger):
        return logger.experiment.url or f"wandb sync {_describe_parts(logger)}"
    if isinstance(logger, MLFlowLogger):
        return f"mlflow ui --backend-store-uri {logger._tracking_uri}"
    place = logger.log_dir or logger.save_dir
    return None if place is None else str(place)


def _describe_parts(logger: WandbLogger) -> str:
    """Return the folder that W&B has written without a network, or a pattern for the folders of a resumed run."""
    part = Path(logger.experiment.dir).parent
    pattern = f"offline-run-*-{logger.experiment.id}"  # each start writes one; they have one id
    return str(part if len(list(part.parent.glob(pattern))) < 2 else part.parent / pattern)


def close_loggers(loggers: Sequence[Logger]) -> None:
    """End the runs of W&B: the next training of this process would be logged into them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger._experiment.finish()


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
