"""The folder that a run begins in: what is there before stays as it is."""

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from attendgen.errors import UserError

FILES = ("train.log", "config.yaml", "vocabulary.json", "environment.json", "metrics_fit.json")
HYDRA = ".hydra"
FOLDERS = (HYDRA, "checkpoints", "tensorboard")
BEFORE_THE_CONFIG = (HYDRA, "train.log", "vocabulary.json", "environment.json")  # written first of all


class RefusedError(BaseException):
    """A run that must not begin.

    It is not an `Exception`, of which Hydra makes a warning where a callback raises it.
    """

    def __init__(self, reason: UserError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class RunFolder(Callback):
    """Looks at the folder of a run before Hydra makes it, and claims it for this process.

    Hydra makes the callback itself and hands nothing on to the job, so the class is where both sides can look.
    """

    claimed: ClassVar[Path | None] = None  # holds no file but those of this run and of others than runs
    existed: ClassVar[bool] = True  # whether it was there before
    checked: ClassVar[bool] = False  # whether a run may begin in its folder

    def on_run_start(self, config: DictConfig, **rest: Any) -> None:
        folder = Path(os.path.abspath(config.hydra.run.dir))
        if is_further_process():
            return
        try:
            if _is_killed_start(folder):
                require_free(folder, "hydra.run.dir", ignored=BEFORE_THE_CONFIG)
            else:
                RunFolder._claim(folder)
        except UserError as error:
            raise RefusedError(error) from error
        RunFolder.checked = True

    @staticmethod
    def _claim(folder: Path) -> None:
        """Make Hydra's own folder in a run's: of two runs that begin in one folder only one can."""
        require_free(folder, "hydra.run.dir")
        existed = folder.is_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / HYDRA).mkdir()
        except FileExistsError:
            require_free(folder, "hydra.run.dir")
            return  # it is a file itself, as Hydra says
        except OSError:
            return  # Hydra says so itself
        RunFolder.claimed, RunFolder.existed = folder, existed


def is_further_process() -> bool:
    """Return whether this is one of several processes of a run that were started with ranks, as by torchrun."""
    return "LOCAL_RANK" in os.environ


def require_no_run(folder: Path, option: str) -> None:
    """Check that a folder holds no run.

    Args:
        option: what the message advises to change.

    Raises:
        UserError: it holds one.
    """
    if (folder / "config.yaml").exists() and (folder / "vocabulary.json").exists():
        raise UserError(f"{folder}: holds a run already; continue it with resume={folder}, or give another {option}")


def require_free(folder: Path, option: str, ignored: tuple[str, ...] = ()) -> None:
    """Check that a run in a folder would write over nothing.

    Args:
        option: what the message advises to change.
        ignored: names that may be there.

    Raises:
        UserError: the folder holds a run, or other files of the names that a run writes.
    """
    require_no_run(folder, option)
    found = [name for name in (*FILES, *FOLDERS) if name not in ignored and os.path.lexists(folder / name)]
    if found:
        raise UserError(
            f"{folder}: holds {', '.join(found)}, which a run would write over; give {option} a new or empty folder"
        )


def _is_killed_start(folder: Path) -> bool:
    """Return whether an earlier start of AttendGen was killed in this folder before it wrote the config of a run."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        composed = (folder / HYDRA / "hydra.yaml").read_text(encoding="utf-8")
        return f"{RunFolder.__module__}.{RunFolder.__name__}" in composed
    return False


def remove_unstarted_run(folder: Path) -> None:
    """Remove what a run that never started has written into the folder that this process claimed for it.

    A folder that was there before stays, with all else in it. A trial of a sweep keeps its folder.
    """
    if RunFolder.claimed is None or os.path.realpath(RunFolder.claimed) != os.path.realpath(folder):
        return
    logging.shutdown()  # train.log lies in the folder
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    if not RunFolder.existed:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
