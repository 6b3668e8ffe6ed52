"""The Hydra application behind `attendgen train`: new runs, sweeps, resumed runs and new ones like a saved one.

attendgen train experiment=NAME [key=value ...] [-m]
"""

import contextlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from attendgen.config.instantiate import get_first_line
from attendgen.config.keys import iterate_keys, refuse_dotted_groups, suggest_key
from attendgen.config.literals import expand_home, quote_arguments
from attendgen.config.overrides import expand_profiler, make_paths_absolute
from attendgen.config.resolvers import register_resolvers
from attendgen.config.saved import to_plain_dict
from attendgen.config.trust import iterate_values, trust, trust_used
from attendgen.hydra_app.auto import AUTO, choose_resumed
from attendgen.hydra_app.callbacks import RefusedError, RunFolder, SweepFolder, remove_unstarted_run
from attendgen.hydra_app.like import is_like, make_hydra_overrides, refuse_folder_of_run, restore_config
from attendgen.hydra_app.processes import report_once, require_one_folder, start_by_script
from attendgen.runs.folder import require_free
from attendgen.runs.layout import CHECKPOINTS, CONFIG, FIT_METRICS, HYDRA, LOG, clean_argument
from attendgen.runs.run import Run
from attendgen.sweeps.trial import run_trial
from attendgen.training.checks import require_own_folder, require_own_paths, require_training
from attendgen.training.train import train
from attendgen.utils.errors import UserError, describe_refusal, format_some
from attendgen.utils.exit_codes import get_line, run_command
from attendgen.utils.ranks import get_launch, get_rank
from attendgen.utils.resources import get_conf_dir

log = logging.getLogger(__name__)

DDP_SCRIPT = Path(__file__).parents[1] / "_ddp_child" / "run.py"
NO_PLUGIN = "no such plugin is installed; pip install 'attendgen[sweep]' (optuna, joblib) or 'attendgen[cluster]'"


def run_job(config: DictConfig) -> float | None:
    """Run one Hydra job: train in Hydra's output directory, and leave nothing behind if the input was wrong.

    Returns:
        The best score; None for a trial of a sweep that failed, which keeps its folder and its error.
    """
    register_resolvers()  # a launcher may have brought the job to another process
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    is_first = get_rank() == 0
    is_trial = hydra_config.mode == RunMode.MULTIRUN
    if is_trial and get_launch() is not None:
        raise UserError("train: a sweep starts the processes of its trials itself; do without torchrun or srun")
    if is_first and not is_trial and not RunFolder.checked:  # Hydra has written its own files by now
        require_free(folder, "hydra.run.dir", ignored=(HYDRA, LOG))
    try:
        if config.get("like"):
            config = restore_config(config, folder)
        make_paths_absolute(config)
        require_own_folder(config, folder)
        expand_profiler(config)
        if is_first:
            trust_used(find_own_targets(config))
        return run_trial(config, folder) if is_trial else train(config, folder)
    except (UserError, OSError):
        if is_first and not is_trial and not (folder / CHECKPOINTS).exists():
            remove_unstarted_run(folder)
        raise


def find_own_targets(config: DictConfig) -> list[object]:
    """Return the classes that the user's own command line and configs name; a saved run's config is not the user's."""
    if config.get("like"):
        changes = (clean_argument(override).partition("=") for override in HydraConfig.get().overrides.task)
        return [value for key, _, value in changes if key.rpartition(".")[2] == "_target_"]
    values = iterate_values(to_plain_dict(config), "config")
    return [value for field, value in values if field.rpartition(".")[2] == "_target_"]


def run_hydra(arguments: list[str]) -> Path | None:
    """Run the application with command-line arguments.

    Returns:
        The folder of the trials if it was a sweep.

    Raises:
        UserError: the arguments or the composed config are wrong.
    """
    with report_once():
        return _run_hydra(take_trust(arguments))


def _run_hydra(arguments: list[str]) -> Path | None:
    """Run the application with arguments without `--trust`."""
    # Lightning starts further processes with this argv: it must name a script that takes overrides alone
    sys.argv = [str(DDP_SCRIPT), *arguments]
    with start_by_script():
        return _run_application(arguments)


def _run_application(arguments: list[str]) -> Path | None:
    """Run the application; `sys.argv` has the same arguments."""
    is_auto = AUTO in arguments
    arguments = choose_resumed(arguments)
    sys.argv[1:] = arguments
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        rest = [argument for argument in arguments if argument not in resumed]
        resume_run(expand_home(resumed[-1].removeprefix("resume=")), rest)
        return None
    require_one_folder(arguments)
    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to the caller
    sys.argv[1:] = order_arguments(arguments)
    if get_rank() > 0 and get_launch() is not None:
        sys.argv.insert(1, "hydra.output_subdir=null")  # the first process writes Hydra's files
    RunFolder.reset(restarts=is_auto)
    SweepFolder.path = None
    try:
        compose_and_run()
    except RefusedError as error:
        raise error.reason from None
    except (HydraException, OmegaConfBaseException) as error:
        message = get_first_line(error)
        unknown = re.match(r"Could not override '([\w.]+)'", message)
        if unknown is not None:
            raise UserError(describe_unknown_key(unknown[1], sys.argv[1:])) from error
        plugin = re.search(r"hydra/(launcher|sweeper)/\w+", message)
        raise UserError(f"{plugin[0]}: {NO_PLUGIN}" if plugin else message) from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:  # Hydra makes the run directory
        raise UserError(f"{error.filename}: cannot be written: {describe_refusal(error)}") from error
    except ValueError as error:
        if str(error).startswith("Config group override"):
            raise UserError(describe_group_error(error, arguments)) from error
        sweep = SweepFolder.get()
        if sweep is None or any(sweep.glob(f"*/{FIT_METRICS}")):
            raise
        # Optuna's sweeper asks for the best of trials that all failed
    return SweepFolder.get()


def describe_group_error(error: ValueError, arguments: list[str]) -> str:
    """Return the message for a group of configs whose choice is not a name."""
    nulls = [argument for argument in arguments if argument.lower().endswith("=null") and "." not in argument]
    if not nulls:
        return f"train: {get_first_line(error)}"
    return f"{format_some(nulls)}: a group cannot be set to null; leave it out of the command"


def compose_and_run() -> None:
    """Let Hydra compose the config of `sys.argv` and run its jobs.

    Raises:
        UserError: a job that is not a sweep's met a mistake.
        DivergedError: its loss became infinite or NaN.
    """
    mistakes: list[Exception] = []

    def job(config: DictConfig) -> float | None:
        try:
            return run_job(config)
        except Exception as error:
            # a sweep's job is perhaps in a launcher's process; what needs a traceback gets one from Hydra
            if HydraConfig.get().mode == RunMode.MULTIRUN or get_line(error) is None:
                raise
            mistakes.append(error)  # Hydra would print a line of its own
            return None

    hydra.main(version_base="1.3", config_path=str(get_conf_dir()), config_name="train")(job)()
    if mistakes:
        raise mistakes[0]


def order_arguments(arguments: list[str]) -> list[str]:
    """Return arguments with the overrides side by side, as Hydra wants them.

    Raises:
        UserError: Hydra does not know an option, two exclude each other, or an argument names no run.
    """
    parser = get_args_parser()
    parser.error = fail_usage  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(arguments)
    refuse_folder_of_run(parsed.config_dir, parsed.config_path)
    if sum(map(bool, (parsed.run, parsed.multirun, parsed.cfg, parsed.info, parsed.shell_completion))) > 1:
        fail_usage("--run, --multirun, --cfg, --info and --shell-completion exclude each other")
    options = [argument for argument in arguments if argument not in parsed.overrides]
    if not is_like(parsed.overrides):
        refuse_dotted_groups(parsed.overrides, get_conf_dir())
    overrides = make_hydra_overrides(parsed.overrides) if is_like(parsed.overrides) else parsed.overrides
    is_sweep = parsed.multirun or any(override.startswith("sweep=") for override in overrides)
    return [*quote_arguments(overrides, is_sweep), *options]


def take_trust(arguments: list[str]) -> list[str]:
    """Trust the packages that `--trust PACKAGE` names; return the other arguments.

    Raises:
        UserError: one is not the name of a package.
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


def describe_unknown_key(key: str, arguments: list[str]) -> str:
    """Return the message for an argument that names no field of the config, with the field that may be meant."""
    hint = ""
    others = [a for a in arguments if "=" in a and not a.startswith((f"{key}=", "-", "hydra")) and a[0].isalpha()]
    with contextlib.suppress(Exception):  # another argument is wrong, too
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
            hint = suggest_key(key, iterate_keys(hydra.compose("train", overrides=others)))
    return f"{key}: no such field{hint or '; attendgen train --cfg job prints all fields, and +KEY=VALUE adds one'}"


def fail_usage(message: str) -> NoReturn:
    """Report a wrong option in one line."""
    raise UserError(f"train: {message}; see attendgen train --help")


def resume_run(name: str, overrides: list[str]) -> None:
    """Continue an interrupted run in its own directory.

    Raises:
        UserError: the directory holds no run, or an override names an unknown field.
    """
    run = Run.find(name, trained=False)
    if run.folder is None:
        raise UserError(f"resume={name}: give the run's directory, not a checkpoint")
    config = run.override(overrides)
    require_training(config, run.folder / CONFIG)
    config.paths.run = str(run.folder.absolute())  # it may have been moved
    expand_profiler(config)
    require_own_paths(config, run.folder, [override.partition("=")[0] for override in overrides], run.folder / CONFIG)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    file = logging.FileHandler(run.folder / LOG, delay=True)
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))  # as in conf/hydra
    logging.getLogger().addHandler(file)
    try:
        log.info("resumed: %s", " ".join(overrides) or "with its own settings")
        train(config, run.folder, resume=True, changes=overrides)
    finally:
        logging.getLogger().removeHandler(file)
        file.close()


def main() -> None:
    """Run the application in a further process; the first process of a training reports what ends it."""
    arguments = sys.argv[1:]
    sys.exit(run_command(lambda: run_hydra(arguments), rank=get_rank()))
