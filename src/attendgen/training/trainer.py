"""The trainer with its callbacks and loggers, and corrections of Lightning's loops."""

from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from omegaconf import DictConfig, open_dict

from attendgen.callbacks.batch_norm import SharedStatistics
from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.hyperparameters import Hyperparameters
from attendgen.callbacks.log_interval import LogInterval
from attendgen.callbacks.step_seed import StepSeed
from attendgen.callbacks.warmup_note import WarmupNote
from attendgen.config.instantiate import instantiate
from attendgen.config.saved import record_config, to_plain_dict
from attendgen.data.loader import BatchSizes
from attendgen.data.module import BaseDataModule
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.runs.provenance import get_processor
from attendgen.tasks.base import BaseTask
from attendgen.tasks.graphs import GraphedSteps
from attendgen.text.saved import describe
from attendgen.training.checkpoint_io import AtomicCheckpointIO, RunRecord
from attendgen.training.components import Components
from attendgen.training.loggers import make_loggers
from attendgen.utils.errors import UserError
from attendgen.utils.ranks import count_launched


class TrainerParts(NamedTuple):
    """A trainer, its loggers by name, and the callback that counts the seconds of the training."""

    trainer: lightning.Trainer
    loggers: dict[str, Logger]
    record: RunRecord


def make_trainer(config: DictConfig, folder: Path, components: Components, resume: bool) -> TrainerParts:
    """Build the trainer with its callbacks and loggers.

    Raises:
        UserError: a part refuses its settings.
    """
    callbacks = [instantiate(callback, "callbacks") for callback in config.callbacks.values() if callback]
    callbacks.insert(0, SharedStatistics())  # before a moving average reads them
    if not config.get("logger"):  # Lightning refuses to watch the rate then
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    resumed = components.resumed
    record = RunRecord(record_config(config), describe(components.vocabulary), resumed.fit_seconds if resumed else 0.0)
    callbacks += [
        record,
        StepSeed(config.seed),
        FiniteLoss(),
        LogInterval(),
        WarmupNote(),
        Hyperparameters(to_plain_dict(config), config.monitor.metric),
    ]
    # a run that starts over because it has no checkpoint keeps nothing of its log
    loggers = make_loggers(config.get("logger"), folder, None if not resume else resumed.step if resumed else 0)
    settings = config.trainer.copy()
    compiles = settings.pop("compile", False)
    settings.pop("share", None)  # which sweeps read
    with open_dict(settings):  # without a bar of the config, Lightning would add its own
        settings.setdefault("enable_progress_bar", any(isinstance(callback, ProgressBar) for callback in callbacks))
    trainer: lightning.Trainer = instantiate(
        settings,
        "trainer",
        callbacks=callbacks,
        logger=list(loggers.values()) or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(folder),
    )
    require_all_processes(trainer)
    if compiles:
        use_graphs(trainer, components.task)
    # Workaround: if max_steps is set, Lightning treats a checkpoint written at the end of an epoch as mid-epoch and
    # increments the epoch counter twice on resume, which changes the shuffling.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    validate_at_end(trainer)
    if isinstance(trainer.strategy, DDPStrategy):
        if trainer.strategy.root_device.type == "cpu":  # where PyTorch cannot synchronize batch normalization
            trainer.strategy._layer_sync = None
        # otherwise buffers are sent at every batch, also in validation, where processes have different numbers of them
        trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
    return TrainerParts(trainer, loggers, record)


def require_all_processes(trainer: lightning.Trainer) -> None:
    """Check that a trainer uses the processes that a launcher has started.

    Raises:
        UserError: each of them would train by itself.
    """
    started, wanted = count_launched(), trainer.num_devices * trainer.num_nodes
    if started not in (None, wanted):
        raise UserError(
            f"trainer.devices={trainer.num_devices}, trainer.num_nodes={trainer.num_nodes}: {wanted} processes, but "
            f"{started} were started; use trainer=ddp trainer.devices=N trainer.num_nodes=M with the launcher's numbers"
        )


def use_graphs(trainer: lightning.Trainer, task: BaseTask[Any]) -> None:
    """Let a task replay its training steps, and the decoding steps of its validations, as CUDA graphs.

    Raises:
        UserError: the trainer has no GPU or several, or a strategy for several; the precision scales the loss; or the
            steps of the task have no fixed length.
    """
    # DistributedDataParallel keeps the ends of all backward passes on another stream, which no graph can record
    is_parallel = not isinstance(trainer.strategy, SingleDeviceStrategy)
    reasons = {
        "needs a GPU; use trainer=gpu": trainer.strategy.root_device.type != "cuda",
        f"not with {trainer.world_size} devices; use trainer=gpu trainer.devices=1": trainer.world_size > 1,
        f"not with {type(trainer.strategy).__name__}; use trainer=gpu": is_parallel,
        "not with trainer.precision=16-mixed; use bf16-mixed": trainer.precision == "16-mixed",
        f"not with {type(task).__name__}, whose steps end when its captions do; leave it out": not task.can_be_graphed,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"trainer.compile=true: {reason}")
    task.graphs, task.decoding_graphs = GraphedSteps(task), DecodingGraphs()


def validate_at_end(trainer: lightning.Trainer) -> None:
    """Let a training validate after its last step, also if that lies between two validations."""
    loop = trainer.fit_loop.epoch_loop
    is_due = loop._should_check_val_fx

    def is_due_or_last(data_fetcher: _DataFetcher) -> bool:
        return is_due(data_fetcher) or (trainer.enable_validation and _is_last_step(trainer))

    loop._should_check_val_fx = is_due_or_last  # type: ignore[method-assign]


def _is_last_step(trainer: lightning.Trainer) -> bool:
    """Return whether training ends after the step that was just taken."""
    fit = trainer.fit_loop
    if fit.max_steps != -1 and trainer.global_step >= fit.max_steps:
        return True
    if trainer.should_stop and fit._can_stop_early:
        return True
    limit = fit.max_epochs
    return (
        fit.epoch_loop.batch_progress.is_last_batch and limit not in (None, -1) and trainer.current_epoch + 1 >= limit
    )


def describe_device(trainer: lightning.Trainer) -> str:
    """Return what a trainer computes on, for the log."""
    device = trainer.strategy.root_device
    count = "" if trainer.world_size == 1 else f"{trainer.world_size} x "
    if device.type == "cuda":
        return f"{count}{torch.cuda.get_device_name(device)}, precision {trainer.precision}"
    name = get_processor() if device.type == "cpu" else device.type
    threads = torch.get_num_threads()
    return f"{count}{device.type} ({name}), {threads} thread{'s' * (threads != 1)}, precision {trainer.precision}"


def describe_unused_gpu(device: torch.device) -> str | None:
    """Return a hint for a training on the CPU of a machine with a GPU, for the log."""
    if device.type != "cpu" or not torch.cuda.is_available():
        return None
    return "this machine has a GPU, which is not used; trainer=gpu trains on it"


def describe_step(trainer: lightning.Trainer, data: BaseDataModule[Any]) -> str | None:
    """Return what a training step is on several devices, for the log; None on one device.

    Raises:
        UserError: the batch of a whole step cannot be divided among the devices.
    """
    sizes = getattr(data, "sizes", None)  # a data module of the user's own may have none
    if not isinstance(sizes, BatchSizes):
        return None
    devices, accumulated = trainer.world_size, trainer.accumulate_grad_batches
    size = sizes.choose(True, devices, accumulated)
    if devices == 1:
        return None
    parts = f"{size} x {devices} devices" + (f" x {accumulated} accumulated batches" if accumulated > 1 else "")
    return (
        f"each step trains on {parts} = {size * devices * accumulated} examples, and the learning rate, steps and "
        "task.schedule are those of such steps, as they are configured; data.global_batch_size=N keeps the size of a "
        "step on any number of devices"
    )
