"""Train what a config describes."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf

from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.hyperparameters import Hyperparameters
from attendgen.callbacks.step_seed import StepSeed
from attendgen.config.instantiate import get_first_line, instantiate
from attendgen.config.saved import record_config, to_plain_dict
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import BaseDataModule
from attendgen.runs.checkpoint import SavedCheckpoint, find_newest_checkpoint
from attendgen.runs.layout import CHECKPOINTS, FIT_METRICS, TENSORBOARD
from attendgen.runs.provenance import get_processor
from attendgen.runs.run import Run
from attendgen.runs.save import save_config, save_run
from attendgen.tasks.base import BaseTask
from attendgen.text.vocabulary import AnyVocabulary
from attendgen.training.checkpoint_io import AtomicCheckpointIO, RunRecord
from attendgen.training.checks import require_own_checkpoints
from attendgen.training.loggers import make_loggers
from attendgen.utils.errors import Interrupted, UserError
from attendgen.utils.files import write_json
from attendgen.utils.logging import silence_warnings
from attendgen.utils.packages import require_packages

log = logging.getLogger(__name__)


class Components(NamedTuple):
    """What a training is made of; `resumed` is the checkpoint that it continues from."""

    data: BaseDataModule[Any]
    task: BaseTask[Any]
    vocabulary: AnyVocabulary
    resumed: SavedCheckpoint | None


def train(config: DictConfig, folder: Path, resume: bool = False) -> float:
    """Build data, vocabulary, model and task, fit, and leave a run directory.

    Args:
        resume: continue the run in the folder.

    Returns:
        The best monitored score; NaN if there was none.

    Raises:
        UserError: the config or the data is wrong.
    """
    started = time.monotonic()
    with use_threads(config.get("threads")):
        silence_warnings()
        check_numbers(config)
        lightning.seed_everything(config.seed, workers=True, verbose=False)
        if torch.cuda.is_available():  # on a CPU this setting takes slow paths
            torch.set_float32_matmul_precision("high")
        components = build_components(config, folder, resume)
        trainer, loggers = make_trainer(config, folder, components, resume)
        if trainer.is_global_zero:
            save_settings(config, folder, components, resume)
            log.info("device: %s", describe_device(trainer))
        setup_seconds = time.monotonic() - started
        fit_seconds = fit(trainer, components, folder)
        score = get_best_score(trainer)
        if trainer.is_global_zero:
            seconds = {"fit_seconds": round(fit_seconds, 2), "setup_seconds": round(setup_seconds, 2)}
            write_summary(config, folder, trainer, score, seconds)
            if any(isinstance(logger, TensorBoardLogger) for logger in loggers):
                log.info("watch: tensorboard --logdir %s", folder / TENSORBOARD)
        return score


@contextlib.contextmanager
def use_threads(count: object) -> Iterator[None]:
    """Let torch compute with this number of threads inside the block; None leaves the choice to torch.

    Raises:
        UserError: the count is not a whole number from 1.
    """
    if count is not None and (not isinstance(count, int) or count < 1):
        raise UserError(f"threads={count}: expected a whole number from 1, or null")
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_numbers(config: DictConfig) -> None:
    """Check the numbers at the top of a config.

    Raises:
        UserError: one is not a whole number, or the seed is out of range.
    """
    for field in ("seed", "steps", "epochs", "validate_every"):
        if not isinstance(config[field], int):
            raise UserError(f"{field}={config[field]}: expected a whole number")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"seed={config.seed}: expected a number from 0 to {2**31 - 1}")


def build_components(config: DictConfig, folder: Path, resume: bool) -> Components:
    """Build data, model and task, and connect them.

    Raises:
        UserError: the config or the data is wrong.
    """
    data = instantiate(config.data, "data")
    if not isinstance(data, BaseDataModule):
        raise UserError(f"data: {type(data).__name__} is not derived from attendgen.data.BaseDataModule")
    resumed = find_newest_checkpoint(folder / CHECKPOINTS) if resume else None
    if resumed is not None:
        require_own_checkpoints(resumed)
    first = Run.find(config.init_from) if config.get("init_from") else None
    if resume:
        vocabulary = Run.find(folder, trained=False).vocabulary
    else:
        vocabulary = data.build_vocabulary() if first is None else first.vocabulary
    model = instantiate(config.model, "model", **vocabulary.sizes())
    if first is not None and resumed is None:
        load_weights_of(model, first)
    task = instantiate(config.task, "task", model=model, vocabulary=vocabulary)
    if not isinstance(task, BaseTask):
        raise UserError(f"task: {type(task).__name__} is not derived from attendgen.tasks.BaseTask")
    require_packages(task.packages)
    data.connect(vocabulary, get_image_encoder(model))
    OmegaConf.set_struct(config, False)
    config.family = task.family
    if config.monitor.metric is None:
        config.monitor.metric, config.monitor.mode = task.monitor
    return Components(data, task, vocabulary, resumed)


def load_weights_of(model: torch.nn.Module, run: Run) -> None:
    """Give a model another run's weights.

    Raises:
        UserError: they are of another model.
    """
    try:
        model.load_state_dict(run.load_model().state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"init_from={run.checkpoint}: weights of another model: {reason}") from error


def make_trainer(
    config: DictConfig, folder: Path, components: Components, resume: bool
) -> tuple[lightning.Trainer, list[Logger]]:
    """Build the trainer with its callbacks and loggers.

    Raises:
        UserError: a part refuses its settings.
    """
    callbacks = [instantiate(callback, "callbacks") for callback in config.callbacks.values() if callback]
    if not config.get("logger"):  # Lightning refuses to watch the rate then
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    callbacks += [
        RunRecord(record_config(config), components.vocabulary.to_dict()),
        StepSeed(config.seed),
        FiniteLoss(),
        Hyperparameters(to_plain_dict(config), config.monitor.metric),
    ]
    # a run that starts over because it has no checkpoint keeps nothing of its log
    resumed = components.resumed
    loggers = make_loggers(config.logger, None if not resume else resumed.step if resumed else 0)
    trainer: lightning.Trainer = instantiate(
        config.trainer,
        "trainer",
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(folder),
    )
    # Workaround: if max_steps is set, Lightning treats a checkpoint written at the end of an epoch as mid-epoch and
    # increments the epoch counter twice on resume, which changes the shuffling.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy):
        # otherwise buffers are sent at every batch, also in validation, where processes have different numbers of them
        trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
    return trainer, loggers


def save_settings(config: DictConfig, folder: Path, components: Components, resume: bool) -> None:
    """Write the run's settings and check that its checkpoints will fit on the disk.

    Raises:
        UserError: they will not.
    """
    if resume:
        save_config(folder, record_config(config))
        if components.resumed is None:
            log.warning("%s: no checkpoint yet; the run starts over", folder)
    else:
        save_run(folder, record_config(config), components.vocabulary)
    require_space(folder, components.task.model)


def require_space(folder: Path, model: torch.nn.Module) -> None:
    """Check that the checkpoints will fit: weights, and twice as much for the optimizer, four times at most.

    Raises:
        UserError: they will not.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    needed, free = 12 * weights, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: {free / 1e6:.0f} MB are free, but the checkpoints need up to {needed / 1e6:.0f} MB")


def describe_device(trainer: lightning.Trainer) -> str:
    """Return what a trainer computes on, for the log."""
    device = trainer.strategy.root_device
    count = "" if trainer.world_size == 1 else f"{trainer.world_size} x "
    if device.type == "cuda":
        return f"{count}{torch.cuda.get_device_name(device)}, precision {trainer.precision}"
    name = get_processor() if device.type == "cpu" else device.type
    return f"{count}{device.type} ({name}), {torch.get_num_threads()} threads, precision {trainer.precision}"


def fit(trainer: lightning.Trainer, components: Components, folder: Path) -> float:
    """Fit, and return the seconds that it took.

    Raises:
        UserError: Lightning refuses the settings.
        Interrupted: a signal stopped the training after it was saved.
    """
    started = time.monotonic()
    checkpoint = components.resumed.path if components.resumed else None
    try:
        trainer.fit(components.task, datamodule=components.data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"config: {get_first_line(error)}") from error
    except Interrupted:
        log.info("interrupted; resume with: attendgen train resume=%s", folder)
        raise
    except SystemExit:  # a second Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    return time.monotonic() - started


def get_best_score(trainer: lightning.Trainer) -> float:
    """Return the best monitored score; NaN if there was none."""
    monitors = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    best = monitors[0].best_model_score if monitors else None
    return float("nan") if best is None else float(best)


def write_summary(
    config: DictConfig, folder: Path, trainer: lightning.Trainer, score: float, seconds: dict[str, float]
) -> None:
    """Write the best score and the cost of the training, and log where the run is."""
    metric = config.monitor.metric
    parameters = trainer.lightning_module.parameters()
    summary = {
        metric: score if math.isfinite(score) else None,  # JSON has no NaN
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **seconds,
    }
    write_json(folder / FIT_METRICS, summary)
    log.info("%s %.4g after %d steps in %.1f s", metric, score, trainer.global_step, seconds["fit_seconds"])
    log.info("run: %s", folder)
