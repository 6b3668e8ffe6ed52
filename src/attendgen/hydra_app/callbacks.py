"""Callbacks by which Hydra tells the application about folders.

Hydra makes callbacks itself and returns nothing from them, so their classes hold what both sides need to know.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from attendgen.hydra_app.processes import announce_folder, wait_for_folder
from attendgen.runs.folder import require_free
from attendgen.runs.layout import BEFORE_CONFIG, FILES, FIT_METRICS, FOLDERS, HYDRA, LOGS, has_checkpoint
from attendgen.utils.errors import UserError
from attendgen.utils.ranks import get_launch, get_rank

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"


class RefusedError(BaseException):
    """A run that must not start.

    It is not an `Exception`, because Hydra turns an exception of a callback into a warning.
    """

    def __init__(self, reason: UserError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class RunFolder(Callback):
    """Check the folder of a run before Hydra makes it, and claim it for this process.

    Of several processes that a launcher starts the first does this, and the others wait for it.

    Attributes:
        path: the folder of the last run that this process started.
        claimed: the folder, which holds no files but those of this run and files that are not a run's.
        existed: whether the folder existed before.
        checked: whether a run may start in its folder.
        restarts: whether a run that was killed before its first checkpoint starts anew in its folder.
    """

    path: ClassVar[Path | None] = None
    claimed: ClassVar[Path | None] = None
    existed: ClassVar[bool] = True
    checked: ClassVar[bool] = False
    restarts: ClassVar[bool] = False

    def on_run_start(self, config: DictConfig, **rest: Any) -> None:
        """Check and claim the folder."""
        folder = Path(config.hydra.run.dir).absolute()
        RunFolder.path = folder
        if get_rank() > 0:
            if get_launch() is not None:
                _refuse_on_error(wait_for_folder, folder)
            return
        _refuse_on_error(_begin, folder)
        RunFolder.checked = True

    @classmethod
    def reset(cls, restarts: bool = False) -> None:
        """Forget the last run."""
        cls.path, cls.claimed, cls.existed, cls.checked, cls.restarts = None, None, True, False, restarts


def _refuse_on_error(check: Callable[[Path], None], folder: Path) -> None:
    """Let a mistake pass through Hydra."""
    try:
        check(folder)
    except UserError as error:
        raise RefusedError(error) from error


def _begin(folder: Path) -> None:
    """Check and claim the folder, and tell the other processes."""
    killed = _is_killed_start(folder)
    if killed and RunFolder.restarts and not has_checkpoint(folder) and not (folder / FIT_METRICS).exists():
        log.warning("%s: no checkpoint yet; the run starts over", folder)
        for name in LOGS:  # of steps that are trained again
            shutil.rmtree(folder / name, ignore_errors=True)
    elif killed:
        require_free(folder, "hydra.run.dir", ignored=BEFORE_CONFIG)
    else:
        _claim(folder)
    if (folder / HYDRA).is_dir():
        announce_folder(folder)


def _claim(folder: Path) -> None:
    """Make Hydra's own folder in a run's: only one of two runs that start in one folder can."""
    require_free(folder, "hydra.run.dir")
    existed = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HYDRA).mkdir()
    except FileExistsError:
        require_free(folder, "hydra.run.dir")
        return  # it is a file, which Hydra reports
    except OSError:
        return  # Hydra reports it
    RunFolder.claimed, RunFolder.existed = folder, existed


def _is_killed_start(folder: Path) -> bool:
    """Return whether an earlier start of AttendGen was killed in this folder before it wrote the config of a run."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        composed = (folder / HYDRA / "hydra.yaml").read_text(encoding="utf-8")
        return f"attendgen.hydra_app.{RunFolder.__name__}" in composed
    return False


def remove_unstarted_run(folder: Path) -> None:
    """Remove what a run that never started has written into the folder that this process claimed for it.

    A folder that existed before stays, with all other files in it. A trial of a sweep keeps its folder.
    """
    if RunFolder.claimed is None or os.path.realpath(RunFolder.claimed) != os.path.realpath(folder):
        return
    logging.shutdown()  # train.log is in the folder
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    if not RunFolder.existed:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


class SweepFolder(Callback):
    """Remember the folder of the sweep in this process.

    Attributes:
        path: None if this process runs no sweep.
    """

    path: ClassVar[Path | None] = None

    @classmethod
    def get(cls) -> Path | None:
        """Return the folder."""
        return cls.path

    def on_multirun_start(self, config: DictConfig, **rest: Any) -> None:
        """Remember the folder, and make that of the study's database."""
        SweepFolder.path = Path(config.hydra.sweep.dir)
        storage = str(OmegaConf.select(config, "hydra.sweeper.storage"))
        if storage.startswith(SQLITE):  # which makes a file, but no folder
            Path(storage.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
            os.environ.setdefault("SQLALCHEMY_SILENCE_UBER_WARNING", "1")  # its version is the one that works
