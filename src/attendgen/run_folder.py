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
FOLDERS = (".hydra", "checkpoints", "tensorboard")
BEFORE_THE_CONFIG = (".hydra", "train.log", "vocabulary.json", "environment.json")  # written first of all


class RefusedError(BaseException):
    """A run that must not begin.

    It is not an `Exception`, of which Hydra makes a warning where a callback raises it.
    """

    def __init__(self, reason: UserError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class RunFolder(Callback):
    """Looks at the folder of a run, or of a sweep's trials, before Hydra makes it.

    Hydra makes the callback itself and hands nothing on to the job, so the class is where both sides can look.
    """

    before: ClassVar[set[Path] | None] = None  # folders that were there; None if it is not known what was in them
    checked: ClassVar[bool] = False  # whether the run's folder is one to begin in

    def on_run_start(self, config: DictConfig, **rest: Any) -> None:
        folder = Path(config.hydra.run.dir).absolute()
        if "LOCAL_RANK" in os.environ:  # a further process of a run finds the first one's files
            return
        killed = _is_killed_start(folder)
        RunFolder.before = None if killed else {folder} if folder.is_dir() else set()
        try:
            require_free(folder, "hydra.run.dir", ignored=BEFORE_THE_CONFIG if killed else ())
        except UserError as error:
            raise RefusedError(error) from error
        RunFolder.checked = True

    def on_multirun_start(self, config: DictConfig, **rest: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute()
        RunFolder.before = set(folder.iterdir()) if folder.is_dir() else set()


def require_free(folder: Path, option: str, ignored: tuple[str, ...] = ()) -> None:
    """Check that a run in a folder would write over nothing.

    Args:
        option: what the message advises to change.
        ignored: names that may be there.

    Raises:
        UserError: the folder holds a run, or other files of the names that a run writes.
    """
    if (folder / "config.yaml").exists() and (folder / "vocabulary.json").exists():
        raise UserError(f"{folder}: holds a run already; continue it with resume={folder}, or give another {option}")
    found = [name for name in (*FILES, *FOLDERS) if name not in ignored and os.path.lexists(folder / name)]
    if found:
        raise UserError(
            f"{folder}: holds {', '.join(found)}, which a run would write over; give {option} a new or empty folder"
        )


def _is_killed_start(folder: Path) -> bool:
    """Return whether an earlier start of AttendGen was killed in this folder before it wrote the config of a run."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        composed = (folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8")
        return f"{RunFolder.__module__}.{RunFolder.__name__}" in composed
    return False


def remove_unstarted_run(folder: Path, is_trial: bool) -> None:
    """Remove what a run that never started has written; a folder that was there before stays, with all else in it.

    Args:
        is_trial: whether it is a sweep's; nobody has looked into its folder before Hydra wrote there.
    """
    existed = RunFolder.before is None or folder.absolute() in RunFolder.before
    if RunFolder.before is None or (existed and is_trial):
        return  # it is not known what was there
    logging.shutdown()  # train.log lies in the folder
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    if not existed:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
