"""Train what a config describes.

    attendgen train experiment=NAME [key=value ...] [-m]

Started as a script by Lightning for the further processes of a multi-device run.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
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
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attendgen.callbacks.finite_loss import FiniteLoss
from attendgen.callbacks.hyperparameters import Hyperparameters
from attendgen.callbacks.step_seed import StepSeed
from attendgen.checkpointing import AtomicCheckpointIO, RunRecord, Saved, newest_checkpoint
from attendgen.construction import construct, first_line
from attendgen.errors import Interrupted, UserError
from attendgen.files import write_json
from attendgen.loggers import make_loggers
from attendgen.resources import conf_dir, register_resolvers
from attendgen.run_folder import (
    RefusedError,
    RunFolder,
    is_further_process,
    remove_unstarted_run,
    require_free,
    require_no_run,
)
from attendgen.runs import Run, plain, recorded, save_config, save_run, serve
from attendgen.sweeps import Sweep, trial
from attendgen.trust import leaves, trust

log = logging.getLogger(__name__)


def train(config: DictConfig, folder: Path, resume: bool = False) -> float:
    """Build data, vocabulary, model and task, fit, and leave a run directory; returns the best monitored score.

    Raises:
        UserError: the config or the data is wrong; nothing has been written then.
    """
    with use_threads(config.get("threads")):
        return _train(config, folder, resume)


@contextlib.contextmanager
def use_threads(count: Any) -> Iterator[None]:
    """Let torch compute with so many threads for a while; None leaves it to torch.

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


def _train(config: DictConfig, folder: Path, resume: bool) -> float:
    started = time.monotonic()
    quiet()
    for field in ("seed", "steps", "epochs", "validate_every"):
        if not isinstance(config[field], int):
            raise UserError(f"{field}={config[field]}: expected a whole number")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"seed={config.seed}: expected a number from 0 to {2**31 - 1}")
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    if torch.cuda.is_available():  # on a CPU this setting takes slow paths
        torch.set_float32_matmul_precision("high")
    data = construct(config.data)
    last = newest_checkpoint(folder / "checkpoints") if resume else None
    if last is not None:
        require_own_checkpoints(last)
    first = Run.find(config.init) if config.get("init") else None
    if resume:
        vocabulary = Run.find(folder, trained=False).vocabulary
    else:
        vocabulary = data.build_vocabulary() if first is None else first.vocabulary
    model = construct(config.model, **vocabulary.sizes())
    if first is not None and last is None:
        start_from(model, first)
    task = construct(config.task, model=model, vocabulary=vocabulary)
    serve(data, task, vocabulary)
    record = recorded(config)
    callbacks = [construct(callback) for callback in config.callbacks.values() if callback]
    if not config.get("logger"):  # Lightning refuses to watch the rate then
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    callbacks += [
        RunRecord(record, vocabulary.to_dict()),
        StepSeed(config.seed),
        FiniteLoss(),
        Hyperparameters(plain(config), config.monitor.metric),
    ]
    # a run that starts over for want of a checkpoint keeps nothing of its log
    loggers = make_loggers(config.logger, None if not resume else last.step if last else 0)
    trainer: lightning.Trainer = construct(
        config.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(folder),
    )
    # else Lightning takes an epoch at whose end the run was saved for unfinished if the steps are limited, and counts
    # it twice: the next epoch would be shuffled as the one after it
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy):
        # buffers are sent at every batch otherwise, also in validation, where processes differ in how many they have
        trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
    if trainer.is_global_zero:
        if resume:
            save_config(folder, record)
        else:
            save_run(folder, record, vocabulary)
    if resume and last is None:
        log.warning("%s: no checkpoint yet; the run starts over", folder)
    if trainer.is_global_zero:
        require_space(folder, model)

    fit_started = time.monotonic()
    try:
        trainer.fit(task, datamodule=data, ckpt_path=last.path if last else None, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"config: {first_line(error)}") from error
    except Interrupted:
        log.info("interrupted; continue with: attendgen train resume=%s", folder)
        raise
    except SystemExit:  # a second Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    seconds = time.monotonic() - fit_started
    best = [c.best_model_score for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    score = float("nan") if not best or best[0] is None else float(best[0])
    if trainer.is_global_zero:
        parameters = sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
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
        if any(isinstance(logger, TensorBoardLogger) for logger in loggers):
            log.info("watch: tensorboard --logdir %s", folder / "tensorboard")
    return score


def require_space(folder: Path, model: torch.nn.Module) -> None:
    """Check that the checkpoints will fit: weights, and twice as much for the optimiser, four times at the most.

    Raises:
        UserError: they will not.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    needed, free = 12 * weights, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: {free / 1e6:.0f} MB are free, but the checkpoints need up to {needed / 1e6:.0f} MB")


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
        "Checkpoint directory .* exists and is not empty",  # a run that goes on
        "broadcast_buffers",
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")


def absolute_paths(config: DictConfig) -> None:
    """Make the paths in a config independent of the working directory, so that the run can be used from anywhere."""
    data = [(config.data, "root")] if isinstance(config.data.get("root"), str) else []
    if config.get("init") and os.path.exists(config.init):  # or it is a bundled model's name
        config.init = os.path.abspath(config.init)
    for node, key in (*data, (config.paths, "cache"), (config.paths, "outputs"), (config.paths, "run")):
        node[key] = os.path.abspath(node[key])


def job(config: DictConfig) -> float | None:
    """One Hydra job: train in Hydra's output directory, and leave nothing behind if the input was wrong.

    A sweep's trial keeps its folder and its error; None is the score of one that failed.
    """
    register_resolvers()  # a launcher may have brought the job to another process
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    child = is_further_process()
    is_trial = hydra_config.mode == RunMode.MULTIRUN
    option = "hydra.sweep.dir" if is_trial else "hydra.run.dir"
    if child:
        if os.environ.get("RANK", os.environ["LOCAL_RANK"]) == "0":  # which writes the config before the others look
            require_no_run(folder, option)
    elif is_trial or not RunFolder.checked:  # Hydra has written its own files by now
        require_free(folder, option, ignored=(".hydra", "train.log"))
    try:
        absolute_paths(config)
        require_own_folder(config, folder)
        profile(config)
        if is_trial:
            return trial(config, folder, train)
        return train(config, folder)
    except UserError:
        if not child and not is_trial and not (folder / "checkpoints").exists():
            remove_unstarted_run(folder)
        raise


def require_own_folder(config: DictConfig, folder: Path) -> None:
    """Check that a run writes into its own folder: a saved run's config names the folder of that run.

    Raises:
        UserError: `paths.run` is another folder.
    """
    if os.path.realpath(config.paths.run) != os.path.realpath(folder):
        raise UserError(
            f"paths.run={config.paths.run}: not the folder of this run, {folder}; to train anew by the config of "
            "another run add 'paths.run=${hydra:runtime.output_dir}'"
        )


PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}


def profile(config: DictConfig) -> None:
    """Let a profiler that is named alone write into the run directory.

    Raises:
        UserError: there is no such profiler.
    """
    name = config.trainer.get("profiler")
    if not isinstance(name, str):
        return
    if name not in PROFILERS:
        raise UserError(f"trainer.profiler={name}: unknown; choose one of {', '.join(PROFILERS)}")
    config.trainer.profiler = {
        "_target_": f"lightning.pytorch.profilers.{PROFILERS[name]}",
        "dirpath": "${paths.run}/profiler",
        "filename": name,
    }


NO_PLUGIN = "no such plugin is installed; pip install 'attendgen[sweep]' (optuna, joblib) or 'attendgen[cluster]'"


def run_hydra(arguments: list[str]) -> Path | None:
    """Run Hydra's application with these command-line arguments; the folder of the trials if it was a sweep.

    Raises:
        UserError: the arguments or the composed config are wrong.
    """
    arguments = take_trust(arguments)
    # Lightning starts further processes with this argv: it must name a script that takes overrides alone
    sys.argv = [__file__, *arguments]
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        rest = [argument for argument in arguments if argument not in resumed]
        resume_run(resumed[-1].removeprefix("resume="), rest)
        return None
    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to the caller
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(arguments)
    if sum(map(bool, (parsed.run, parsed.multirun, parsed.cfg, parsed.info, parsed.shell_completion))) > 1:
        refuse("--run, --multirun, --cfg, --info and --shell-completion exclude each other")
    # Hydra itself wants the overrides side by side
    sys.argv[1:] = [*parsed.overrides, *(argument for argument in arguments if argument not in parsed.overrides)]
    Sweep.folder, RunFolder.claimed, RunFolder.checked = None, None, False
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except RefusedError as error:
        raise error.reason from None
    except (HydraException, OmegaConfBaseException) as error:
        message = first_line(error)
        plugin = re.search(r"hydra/(launcher|sweeper)/\w+", message)
        raise UserError(f"{plugin[0]}: {NO_PLUGIN}" if plugin else message) from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:  # Hydra makes the run directory
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from error
    except ValueError:
        if Sweep.folder is None or any(Sweep.folder.glob("*/metrics_fit.json")):
            raise
        # Optuna's sweeper asks for the best of trials that all failed
    return Sweep.folder


def take_trust(arguments: list[str]) -> list[str]:
    """Trust the packages that `--trust PACKAGE` names; returns the arguments without these.

    Raises:
        UserError: one is not a package's name.
    """
    rest: list[str] = []
    packages = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if name != "--trust":
            rest.append(argument)
        else:
            packages.append(value if equals else next(waiting, ""))
    trust(packages)
    return rest


def refuse(message: str) -> NoReturn:
    """Report a wrong option of Hydra's in one line."""
    raise UserError(f"train: {message}; see attendgen train --help")


def resume_run(name: str, overrides: list[str]) -> None:
    """Continue an interrupted run in its own directory.

    Raises:
        UserError: the directory holds no run, or an override names an unknown field.
    """
    run = Run.find(name, trained=False)
    if run.folder is None:
        raise UserError(f"resume={name}: give the run's directory, not a checkpoint")
    config = run.overridden(overrides)
    config.paths.run = str(run.folder.absolute())  # it may have been moved
    profile(config)
    require_own_places(config, run.folder, [override.partition("=")[0] for override in overrides])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    file = logging.FileHandler(run.folder / "train.log", delay=True)
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))  # as in conf/hydra
    logging.getLogger().addHandler(file)
    try:
        log.info("continued: %s", " ".join(overrides) or "as it was begun")
        train(config, run.folder, resume=True)
    finally:
        logging.getLogger().removeHandler(file)
        file.close()


PLACES = ("dirpath", "folder", "save_dir", "root_dir", "default_root_dir", "log_dir", "dir")


def require_own_places(config: DictConfig, folder: Path, given: list[str]) -> None:
    """Check that a continued run writes, and deletes older checkpoints, in its own folder: it may be a stranger's.

    Args:
        given: fields from the command line; the user's own word is taken.

    Raises:
        UserError: a callback, a logger or the trainer names another place, or a file of the run is a link.
    """
    own = os.path.realpath(folder)
    groups = {group: value for group, value in plain(config).items() if group in ("callbacks", "logger", "trainer")}
    for field, value in leaves(groups, folder / "config.yaml"):
        if field.rpartition(".")[2] not in PLACES or not value:
            continue
        if any(f"{field}.".startswith(f"{key}.") for key in given):
            continue
        if os.path.commonpath([own, os.path.realpath(str(value))]) != own:
            raise UserError(
                f"{folder / 'config.yaml'}: {field}={value}: not in the run's own folder; if it is meant, say so on "
                f"the command line: {field}={value}"
            )
    if (folder / "train.log").is_symlink():
        raise UserError(f"{folder / 'train.log'}: a link to another file; a continued run would write to that one")


def require_own_checkpoints(checkpoint: Saved) -> None:
    """Check that the older checkpoints that a continued run would delete are files beside the new ones.

    Raises:
        UserError: the checkpoint names others.
    """
    states = checkpoint.callbacks
    for state in states.values() if isinstance(states, dict) else ():
        if not isinstance(state, dict) or "dirpath" not in state:
            continue
        models = state.get("best_k_models") or {}
        names = [*models, *(state.get(f"{kind}_model_path") for kind in ("kth_best", "last", "best"))]
        for name in filter(None, names):
            if os.path.dirname(os.path.realpath(name)) != os.path.realpath(state["dirpath"]) or os.path.isdir(name):
                raise UserError(f"{checkpoint.path}: names {name} as a checkpoint of its own, which it is not")


def main() -> None:
    """Entry point of further processes, and of `python -m attendgen.training`."""
    try:
        run_hydra(sys.argv[1:])
    except UserError as error:
        sys.exit(f"attendgen: {first_line(error)}" if "LOCAL_RANK" not in os.environ else 2)
    except Interrupted as signalled:
        sys.exit(128 + signalled.number)


if __name__ == "__main__":
    main()
