"""Train what a config describes."""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from attendgen.config.instantiate import get_first_line
from attendgen.config.saved import record_config
from attendgen.runs.folder import hold_run
from attendgen.runs.layout import CONFIG, ERROR, HISTORY
from attendgen.runs.save import save_resumed, save_run
from attendgen.runs.status import NOT_FINISHED, RunStatus, end_session
from attendgen.training.components import Components, build_components
from attendgen.training.loggers import close_loggers, describe_places, save_ids
from attendgen.training.ranges import check_ranges
from attendgen.training.summary import get_best_score, write_summary
from attendgen.training.threads import choose_threads, use_threads
from attendgen.training.trainer import describe_device, describe_step, describe_unused_gpu, make_trainer
from attendgen.utils.errors import Interrupted, UserError
from attendgen.utils.files import replacing
from attendgen.utils.logging import silence_warnings
from attendgen.utils.precision import set_matmul_precision
from attendgen.utils.ranks import get_rank

log = logging.getLogger(__name__)


def train(config: DictConfig, folder: Path, resume: bool = False, changes: Sequence[str] = ()) -> float:
    """Build data, vocabulary, model and task, fit, and leave a run directory.

    Args:
        resume: continue the run in the folder.
        changes: settings with which it is resumed, for its history.

    Returns:
        The best monitored score; NaN if there was none.

    Raises:
        UserError: the config or the data is wrong, or another process trains the run.
    """
    started = time.monotonic()
    with use_threads(config.get("threads")), hold_run(folder) if get_rank() == 0 else contextlib.nullcontext():
        silence_warnings()
        check_numbers(config)
        check_ranges(config)
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        components = build_components(config, folder, resume)
        choose_threads(config, components)
        trainer, loggers, record = make_trainer(config, folder, components, resume)
        set_matmul_precision(trainer.strategy.root_device)
        step = describe_step(trainer, components.data)
        with keep_settings(folder, trainer, components) if resume else contextlib.nullcontext():
            if trainer.is_global_zero:
                save_settings(config, folder, components, resume, changes)
                log.info("device: %s", describe_device(trainer))
                for line in filter(None, (describe_unused_gpu(trainer.strategy.root_device), step)):
                    log.info("%s", line)
                save_ids(folder, loggers)
            setup_seconds = time.monotonic() - started
            try:
                fit(trainer, components, folder)
                places = describe_places(trainer.loggers) if trainer.is_global_zero else []
            finally:
                close_loggers(trainer.loggers)
        score = get_best_score(trainer)
        if trainer.is_global_zero:
            seconds = {"fit_seconds": round(record.get_seconds(), 2), "setup_seconds": round(setup_seconds, 2)}
            write_summary(config, folder, trainer, score, seconds)
            if resume:
                (folder / ERROR).unlink(missing_ok=True)  # of a trial of a sweep that had failed
            for place in places:
                log.info("log: %s", place)
        return score


def check_numbers(config: DictConfig) -> None:
    """Check the numbers at the top of a config.

    Raises:
        UserError: one is not a whole number, or the seed is out of range.
    """
    for field in ("seed", "steps", "epochs", "validate_every"):
        if not isinstance(config[field], int):
            raise UserError(f"{field}={config[field]}: expected a whole number, such as 10")
    for field in ("steps", "epochs"):
        if config[field] < 1 and config[field] != -1:
            raise UserError(f"{field}={config[field]}: expected a number from 1, or -1 for no limit")
    if config.validate_every < 1:
        raise UserError(f"validate_every={config.validate_every}: expected a number from 1")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"seed={config.seed}: expected a number from 0 to {2**31 - 1}")


def save_settings(
    config: DictConfig, folder: Path, components: Components, resume: bool, changes: Sequence[str]
) -> None:
    """Write the run's settings and check that its checkpoints will fit on the disk.

    Raises:
        UserError: they will not.
    """
    if resume:
        save_resumed(folder, record_config(config), changes, components.resumed.step if components.resumed else 0)
        if components.resumed is None:
            log.warning("%s: no checkpoint yet; the run starts over", folder)
    else:
        save_run(folder, record_config(config), components.vocabulary)
    require_space(folder, components.task.model)


@contextlib.contextmanager
def keep_settings(folder: Path, trainer: lightning.Trainer, components: Components) -> Iterator[None]:
    """Put back the settings and the history of a run whose resumed training fails before it takes a step.

    What fails may be a changed setting, with which the run could not be used any more.
    """
    before = {path: path.read_bytes() for path in (folder / CONFIG, folder / HISTORY) if path.is_file()}
    try:
        yield
    except Exception:
        if trainer.is_global_zero and trainer.global_step <= (components.resumed.step if components.resumed else 0):
            for path, content in before.items():
                with contextlib.suppress(UserError, OSError), replacing(path) as temporary:
                    temporary.write_bytes(content)
        raise


def require_space(folder: Path, model: torch.nn.Module) -> None:
    """Check that the checkpoints will fit: weights, and twice as much for the optimizer, four times at most.

    Raises:
        UserError: they will not.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    needed, free = 12 * weights, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:.0f} MB are free, but the checkpoints need up to {needed / 1e6:.0f} MB; "
            "make room, or set hydra.run.dir"
        )


def fit(trainer: lightning.Trainer, components: Components, folder: Path) -> None:
    """Fit; write into the run's history what stops it.

    Raises:
        UserError: Lightning refuses the settings.
        Interrupted: a signal stopped the training after it was saved.
    """
    try:
        call_fit(trainer, components)
    except (Exception, Interrupted, KeyboardInterrupt) as error:
        if trainer.is_global_zero:
            reason = get_first_line(error) or type(error).__name__
            with contextlib.suppress(UserError, OSError):  # a full disk may be what stopped it
                end_session(folder, RunStatus(NOT_FINISHED, reason), steps=trainer.global_step)
            if not isinstance(error, Exception):
                log.info("%s: %s; resume with: attendgen train resume=%s", NOT_FINISHED, reason, folder)
        raise


def call_fit(trainer: lightning.Trainer, components: Components) -> None:
    """Let Lightning fit, from the checkpoint if the run is resumed.

    Raises:
        UserError: Lightning refuses the settings, or the checkpoint is of another model.
    """
    checkpoint = components.resumed.path if components.resumed else None
    try:
        trainer.fit(components.task, datamodule=components.data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"config: {get_first_line(error)}") from error
    except RuntimeError as error:
        if checkpoint is None or "loading state_dict" not in str(error):
            raise
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{checkpoint}: weights of another model: {reason}; leave model.* as it was trained") from error
    except SystemExit:  # a second Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
