"""Trials of a sweep: each is trained in a process of its own; a failure is recorded, and the sweep continues.

    python -m attendgen.sweeps.trial FOLDER

trains the trial whose config a sweep has written into FOLDER; Lightning starts it again for further devices.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attendgen.config.instantiate import get_first_line
from attendgen.config.saved import record_config
from attendgen.runs.folder import require_free
from attendgen.runs.layout import CONFIG, ERROR, FIT_METRICS, HYDRA, LOG, TRIAL, clean_argument, is_run_folder
from attendgen.sweeps.gpus import make_lock_folder, reserve_gpus, uses_gpus
from attendgen.training.train import train
from attendgen.utils.errors import UserError
from attendgen.utils.exit_codes import run_command
from attendgen.utils.files import read_json, read_yaml, write_json, write_text

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # a trial saves and ends, and so does the sweep


def run_trial(config: DictConfig, folder: Path) -> float | None:
    """Train one trial and return its score, or None after a failure, which `error.json` in its folder tells.

    A trial that an earlier run of the same sweep completed keeps its score; one that was killed or failed goes on.

    Raises:
        UserError: the sweep asks for what no trial can do, or the folder holds something else than this trial.
    """
    hydra = HydraConfig.get()
    number, devices = hydra.job.num, config.trainer.devices
    if config.trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={config.trainer.num_nodes}: a trial of a sweep has one machine; set it to 1"
        )
    if not config.isolate and devices not in (1, "1"):
        raise UserError(f"trainer.devices={devices}: isolate=false trains on one device per trial; use isolate=true")
    log.info("trial %s: %s", number, " ".join(map(clean_argument, hydra.overrides.task)))
    logs = OmegaConf.to_container(hydra.job_logging, resolve=True)
    record = record_config(config)
    if not is_same_trial(folder, record):
        require_free(folder, "hydra.sweep.dir", ignored=(HYDRA, LOG))  # Hydra has written its own files by now
    elif (folder / FIT_METRICS).exists() and not (folder / ERROR).exists():
        log.info("trial %s: complete since an earlier start", number)
        return read_score(folder)
    (folder / ERROR).unlink(missing_ok=True)
    write_text(folder / TRIAL, yaml.safe_dump({"config": record, "logging": logs}, sort_keys=False))
    if not config.isolate:
        attempt(config, folder)
    else:
        with trial_environment(config) as variables:
            code = run_process([sys.executable, "-m", "attendgen.sweeps.trial", str(folder)], variables)
        if code != 0 and not (folder / ERROR).exists():
            ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            write_error(folder, f"its process ended by {ended}")
    if not (folder / ERROR).exists():
        score = read_score(folder)
        if score is not None:
            return score
        write_error(folder, f"{get_monitored(folder)}: no validation gave a finite number")
    log.error("trial %s failed: %s", number, read_json(folder / ERROR)["error"])
    return None


def is_same_trial(folder: Path, record: dict[str, Any]) -> bool:
    """Return whether an earlier start of a sweep began a trial with these settings in a folder."""
    try:
        before = read_yaml(folder / TRIAL)
    except UserError:
        return False
    return isinstance(before, dict) and before.get("config") == record


def read_score(folder: Path) -> float | None:
    """Return the score of a trained trial; None if it has none."""
    score = read_json(folder / FIT_METRICS).get(get_monitored(folder))
    return None if score is None else float(score)


def get_monitored(folder: Path) -> str:
    """Return the metric that chose a run's best checkpoint; a trial's command may leave it to the task."""
    return str(read_yaml(folder / CONFIG)["monitor"]["metric"])


def attempt(config: DictConfig, folder: Path) -> bool:
    """Train, or go on if a run is there; return whether it succeeded, and write the error if not."""
    try:
        train(config, folder, resume=is_run_folder(folder))
    except Exception as error:
        if not (folder / ERROR).exists():  # of several processes the first to fail has the cause
            message = get_first_line(error) or type(error).__name__
            write_error(folder, message, None if isinstance(error, UserError) else traceback.format_exc())
        return False
    return True


def write_error(folder: Path, message: str, trace: str | None = None) -> None:
    """Write why a trial failed into its folder."""
    time = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    write_json(folder / ERROR, {"error": message, "time": time, "traceback": trace})


@contextlib.contextmanager
def trial_environment(config: DictConfig) -> Iterator[dict[str, str]]:
    """Yield the environment variables of a trial's process, with GPUs, or shares of them, of its own."""
    if "SLURM_JOB_ID" in os.environ:
        # the job has its GPUs; under this name Lightning starts a trial's processes itself
        yield {**os.environ, "SLURM_JOB_NAME": "interactive"}
        return
    devices = config.trainer.devices
    wanted = int(devices) if str(devices).isdecimal() else 0  # "auto", -1 and lists say themselves which
    if not wanted or not uses_gpus(config.trainer.accelerator):
        yield dict(os.environ)
        return
    with reserve_gpus(wanted, make_lock_folder(), config.trainer.get("share", 1)) as gpus:
        yield {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def run_process(command: list[str], variables: dict[str, str]) -> int:
    """Run a process and return its exit code, negative for a signal; pass on signals to this process."""
    process = subprocess.Popen(command, env=variables)

    received = signal.SIGTERM

    def stop(number: int, _frame: object) -> None:
        nonlocal received
        received = signal.Signals(number)
        sys.exit(128 + number)  # ends `wait` below, whose lock the handler must not acquire

    main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in STOPPING} if main_thread else {}
    try:
        return process.wait()
    except KeyboardInterrupt:  # Ctrl-C has reached the trial, too: let it save
        process.wait()
        raise
    except SystemExit:
        process.send_signal(received)
        process.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Train the trial in a folder; exit code 1 if it failed, 128 + the signal's number if a signal stopped it."""
    folder = Path(sys.argv[1])
    trial = read_yaml(folder / TRIAL)
    logging.config.dictConfig(trial["logging"])
    config = OmegaConf.create(trial["config"])
    # the sweep reports what ends its trials
    sys.exit(run_command(lambda: 0 if attempt(config, folder) else 1, silent=True))


if __name__ == "__main__":
    main()
