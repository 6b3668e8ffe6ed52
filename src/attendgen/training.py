"""Train what a config describes.

    attendgen train experiment=NAME [key=value ...] [-m]

Started as a script by Lightning for the further processes of a multi-device run.
"""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import hydra
import lightning
import torch
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attendgen.callbacks.hyperparameters import Hyperparameters
from attendgen.checkpointing import AtomicCheckpointIO, RandomState, RunRecord
from attendgen.construction import construct, first_line
from attendgen.errors import UserError
from attendgen.files import write_json
from attendgen.resources import conf_dir, register_resolvers
from attendgen.runs import Run, plain, save_run, serve

log = logging.getLogger(__name__)


def train(config: DictConfig, folder: Path, resume: bool = False) -> float:
    """Build data, vocabulary, model and task, fit, and leave a run directory; returns the best monitored score.

    Raises:
        UserError: the config or the data is wrong; nothing has been written then.
    """
    started = time.monotonic()
    quiet()
    for field in ("seed", "steps", "epochs", "validate_every"):
        if not isinstance(config[field], int):
            raise UserError(f"{field}={config[field]}: expected a whole number")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"seed={config.seed}: expected a number from 0 to {2**31 - 1}")
    # the same data order everywhere; each process draws its own dropout and samples
    lightning.seed_everything(config.seed + getattr(rank_zero_only, "rank", 0), workers=True, verbose=False)
    if torch.cuda.is_available():  # on a CPU this setting takes slow paths
        torch.set_float32_matmul_precision("high")
    data = construct(config.data)
    first = Run.find(folder) if resume else Run.find(config.init) if config.get("init") else None
    vocabulary = data.build_vocabulary() if first is None else first.vocabulary
    model = construct(config.model, **vocabulary.sizes())
    if first is not None and not resume:
        start_from(model, first)
    task = construct(config.task, model=model, vocabulary=vocabulary)
    serve(data, task, vocabulary)
    record = plain(config)
    callbacks = [construct(callback) for callback in config.callbacks.values() if callback]
    if not config.logger:  # Lightning refuses to watch the rate then
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    callbacks += [
        RunRecord(record, vocabulary.to_dict()),
        RandomState(),
        Hyperparameters(record, config.monitor.metric),
    ]
    logger = construct(config.logger) if config.logger else False
    trainer: lightning.Trainer = construct(
        config.trainer, callbacks=callbacks, logger=logger, plugins=[AtomicCheckpointIO()], default_root_dir=str(folder)
    )
    if trainer.is_global_zero and not resume:
        save_run(folder, record, vocabulary)
    last = folder / "checkpoints" / "last.ckpt"
    if resume and not last.is_file():
        raise UserError(f"{last}: no checkpoint to resume from")

    fit_started = time.monotonic()
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"config: {first_line(error)}") from error
    except SystemExit:
        if not trainer.interrupted:
            raise
        log.info("interrupted; continue with: attendgen train resume=%s", folder)
        raise KeyboardInterrupt from None
    seconds = time.monotonic() - fit_started
    best = [c.best_model_score for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    score = float("nan") if not best or best[0] is None else float(best[0])
    if trainer.is_global_zero:
        parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        summary = {
            config.monitor.metric: score if math.isfinite(score) else None,  # JSON knows no NaN
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "trained_parameters": parameters,
            "fit_seconds": round(seconds, 2),
            "setup_seconds": round(fit_started - started, 2),
        }
        write_json(folder / "metrics_fit.json", summary)
        log.info("%s %.4g after %d steps in %.1f s", config.monitor.metric, score, trainer.global_step, seconds)
        log.info("run: %s", folder)
        if logger:
            log.info("watch: tensorboard --logdir %s", folder / "tensorboard")
    return score


def start_from(model: torch.nn.Module, run: Run) -> None:
    """Give a model another run's weights.

    Raises:
        UserError: they are of another model.
    """
    trained = run.build().model
    assert isinstance(trained, torch.nn.Module)
    try:
        model.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"init={run.checkpoint}: weights of another model: {str(error).splitlines()[-1].strip()}"
        ) from error


def quiet() -> None:
    """Silence messages that a user can do nothing about."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "LeafSpec",
        "in eval mode at the start",
        "num_workers",
        "log interval",
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")


def absolute_paths(config: DictConfig) -> None:
    """Make the paths in a config independent of the working directory, so that the run can be used from anywhere."""
    data = [(config.data, "root")] if isinstance(config.data.get("root"), str) else []
    if config.get("init") and os.path.exists(config.init):  # or it is a bundled model's name
        config.init = os.path.abspath(config.init)
    for node, key in (*data, (config.paths, "cache"), (config.paths, "outputs"), (config.paths, "run")):
        node[key] = os.path.abspath(node[key])


def job(config: DictConfig) -> float:
    """One Hydra job: train in Hydra's output directory, and leave nothing behind if the input was wrong."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    child = "LOCAL_RANK" in os.environ  # a further process of a run on several devices
    if hydra_config.mode == RunMode.MULTIRUN and (
        config.trainer.devices not in (1, "1") or config.trainer.num_nodes > 1
    ):
        raise UserError(
            f"trainer.devices={config.trainer.devices}: a sweep trains on one device a trial; "
            "drop -m or use trainer.devices=1"
        )
    if (folder / "config.yaml").exists() and not child:
        raise UserError(f"{folder}: holds a run already; continue it with resume={folder}")
    try:
        absolute_paths(config)
        return train(config, folder)
    except UserError:
        if not child and not (folder / "checkpoints").exists():
            forget(folder)
        raise


def forget(folder: Path) -> None:
    """Remove what a run that never started has written, and the folder if nothing else is in it."""
    logging.shutdown()  # train.log lies in the folder
    for name in ("train.log", "config.yaml", "vocabulary.json", "environment.json"):
        (folder / name).unlink(missing_ok=True)
    for name in (".hydra", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def run_hydra(arguments: list[str]) -> None:
    """Run Hydra's application with these command-line arguments.

    Raises:
        UserError: the arguments or the composed config are wrong.
    """
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        rest = [argument for argument in arguments if argument not in resumed]
        return resume_run(resumed[-1].removeprefix("resume="), rest)
    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to the caller
    # Lightning starts further processes with this argv: it must name a script that takes overrides alone
    sys.argv = [__file__, *arguments]
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error
    return None


def refuse(message: str) -> NoReturn:
    """Report a wrong option of Hydra's in one line."""
    raise UserError(f"train: {message}; see attendgen train --help")


def resume_run(name: str, overrides: list[str]) -> None:
    """Continue an interrupted run in its own directory.

    Raises:
        UserError: the directory holds no run, or an override names an unknown field.
    """
    run = Run.find(name)
    if run.folder is None:
        raise UserError(f"resume={name}: give the run's directory, not a checkpoint")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = run.overridden(overrides)
    train(moved(config, run.folder.absolute()), run.folder, resume=True)


def moved(config: DictConfig, folder: Path) -> DictConfig:
    """A run's config with its own folder's old name replaced, should the folder have been moved."""
    old = config.paths.run

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(item) for key, item in value.items()}
        return value.replace(old, str(folder)) if isinstance(value, str) and value.startswith(old) else value

    return OmegaConf.create(rename(plain(config)))


def main() -> None:
    """Entry point of further processes, and of `python -m attendgen.training`."""
    try:
        run_hydra(sys.argv[1:])
    except UserError as error:
        sys.exit(f"attendgen: {first_line(error)}" if "LOCAL_RANK" not in os.environ else 2)


if __name__ == "__main__":
    main()
