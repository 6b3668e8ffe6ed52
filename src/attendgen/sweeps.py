"""Trials of a sweep: each trained in a process of its own, its failure written down and the sweep going on.

    python -m attendgen.sweeps FOLDER

trains the trial that a sweep has laid down in FOLDER; Lightning starts it again for further devices.
"""

import contextlib
import datetime
import logging
import logging.config
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from attendgen.construction import first_line
from attendgen.errors import Interrupted, UserError
from attendgen.files import read_json, read_yaml, write_json, write_text
from attendgen.gpus import reserved
from attendgen.records import ERROR, TRIAL
from attendgen.runs import recorded

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"

Train = Callable[[DictConfig, Path], float]


class Sweep(Callback):
    """Remembers where the sweep of this process keeps its trials.

    Hydra makes the callback itself and returns nothing from a sweep, so the class is where both sides can look.
    """

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **rest: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)
        storage = str(OmegaConf.select(config, "hydra.sweeper.storage"))
        if storage.startswith(SQLITE):  # which makes a file, but no folder
            Path(storage.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")  # its version is the one that works


def trial(config: DictConfig, folder: Path, train: Train) -> float | None:
    """Train one trial; its score, or None after a failure, which `error.json` in its folder tells.

    Args:
        train: trains a config in a folder; used for `isolate=false`.

    Raises:
        UserError: the sweep asks for what no trial can do.
    """
    hydra = HydraConfig.get()
    number, devices = hydra.job.num, config.trainer.devices
    if config.trainer.num_nodes > 1:
        raise UserError(f"trainer.num_nodes={config.trainer.num_nodes}: a trial of a sweep has one machine")
    if not config.isolate and devices not in (1, "1"):
        raise UserError(f"trainer.devices={devices}: isolate=false trains on one device a trial; use isolate=true")
    log.info("trial %s: %s", number, " ".join(hydra.overrides.task))
    logs = OmegaConf.to_container(hydra.job_logging, resolve=True)
    write_text(folder / TRIAL, yaml.safe_dump({"config": recorded(config), "logging": logs}, sort_keys=False))
    if not config.isolate:
        attempt(config, folder, train)
    else:
        with environment(config, folder.parent) as variables:
            code = call([sys.executable, "-m", "attendgen.sweeps", str(folder)], variables)
        if code != 0 and not (folder / ERROR).exists():
            ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            write_error(folder, f"its process ended by {ended}")
    if not (folder / ERROR).exists():
        score = read_json(folder / "metrics_fit.json")[config.monitor.metric]
        if score is not None:
            return float(score)
        write_error(folder, f"{config.monitor.metric}: no validation gave a finite number")
    log.error("trial %s failed: %s", number, read_json(folder / ERROR)["error"])
    return None


def attempt(config: DictConfig, folder: Path, train: Train) -> bool:
    """Train, and write down why it failed if it did."""
    try:
        train(config, folder)
    except Exception as error:
        if not (folder / ERROR).exists():  # of several processes the first to fail has the cause
            told = first_line(error) or type(error).__name__
            write_error(folder, told, None if isinstance(error, UserError) else traceback.format_exc())
        return False
    return True


def write_error(folder: Path, message: str, trace: str | None = None) -> None:
    """Say in a trial's folder why it failed."""
    time = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    write_json(folder / ERROR, {"error": message, "time": time, "traceback": trace})


@contextlib.contextmanager
def environment(config: DictConfig, sweep: Path) -> Iterator[dict[str, str]]:
    """The environment of a trial's process, with GPUs of its own."""
    if "SLURM_JOB_ID" in os.environ:
        # the job has its GPUs; under this name Lightning starts a trial's processes itself
        yield {**os.environ, "SLURM_JOB_NAME": "interactive"}
        return
    devices = config.trainer.devices
    wanted = int(devices) if str(devices).isdecimal() else 0  # "auto", -1 and lists say themselves which
    if config.trainer.accelerator not in ("gpu", "cuda") or not wanted:
        yield dict(os.environ)
        return
    with reserved(wanted, sweep) as gpus:
        yield {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def call(command: list[str], variables: dict[str, str]) -> int:
    """Run a process to its end, passing on that this one is to stop; its exit code, negative for a signal."""
    process = subprocess.Popen(command, env=variables)

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)  # out of the wait below, whose lock the handler must not want

    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main_thread else None
    try:
        return process.wait()
    except KeyboardInterrupt:  # Ctrl-C has reached the trial, too: let it save
        process.wait()
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Train the trial laid down in a folder; exit code 1 if it failed, 128 + its number if a signal stopped it."""
    from attendgen.training import train  # which imports this module

    folder = Path(sys.argv[1])
    laid_down = read_yaml(folder / TRIAL)
    logging.config.dictConfig(laid_down["logging"])
    try:
        done = attempt(OmegaConf.create(laid_down["config"]), folder, train)
    except Interrupted as stopped:
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
