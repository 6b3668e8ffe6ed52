"""Where runs are, and the folder in which one starts: what is there before stays unchanged."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from attendgen.config.literals import expand_home
from attendgen.runs.layout import CONFIG, FILES, FOLDERS, HYDRA, is_run_folder
from attendgen.utils.errors import UserError
from attendgen.utils.files import exists, is_folder, lock
from attendgen.utils.resources import bundled_models

PATIENCE = 5.0  # seconds


def require_run(name: str | Path) -> None:
    """Check that a name is that of a run directory, a checkpoint or a bundled model.

    Raises:
        UserError: nothing is there.
    """
    path = Path(expand_home(str(name)))
    if names_bundled(name) or (exists(path) and path.is_file()):
        return
    if not is_folder(path):
        raise UserError(f"{path}: no such run directory, checkpoint or bundled model; attendgen runs lists the runs")
    if not exists(path / CONFIG):
        if is_folder(path / HYDRA):
            raise UserError(f"{path / CONFIG}: no such file; this training ended before it began, start it again")
        found = sorted(path.glob(f"*/{CONFIG}"), key=lambda file: file.stat().st_mtime)
        runs = f"a folder of {len(found)} runs; the newest is {found[-1].parent}" if found else "not a run directory"
        raise UserError(f"{path / CONFIG}: no such file; {path} is {runs}; attendgen runs lists the runs")


def names_bundled(name: str | Path) -> bool:
    """Return whether a name is that of a bundled model, which a run of the same name hides, but no other folder."""
    path = Path(name)
    return str(name) in bundled_models() and not (exists(path) and path.is_file()) and not exists(path / CONFIG)


def names_run(name: str) -> bool:
    """Return whether a name is that of a run: its folder, a checkpoint or a bundled model."""
    path = Path(name)
    return is_run_folder(path) or path.suffix == ".ckpt" or names_bundled(name)


def require_no_run(folder: Path, option: str) -> None:
    """Check that a folder holds no run.

    Args:
        option: what the message advises to change.

    Raises:
        UserError: it holds one.
    """
    if is_run_folder(folder):
        raise UserError(f"{folder}: holds a run already; continue it with resume={folder}, or give another {option}")


@contextlib.contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Let this process alone train in a folder inside the block.

    It waits a moment for another one: processes that a killed training has started end soon after it.

    Raises:
        UserError: another process trains in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(folder, wait=False))
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise UserError(f"{folder}: another process trains this run; wait for it, or stop it") from error
                time.sleep(0.1)
        yield


def require_free(folder: Path, option: str, ignored: tuple[str, ...] = ()) -> None:
    """Check that a run in a folder would overwrite nothing.

    Args:
        option: what the message advises to change.
        ignored: names that may exist.

    Raises:
        UserError: the folder holds a run, or other files of the names that a run writes.
    """
    require_no_run(folder, option)
    found = [name for name in (*FILES, *FOLDERS) if name not in ignored and os.path.lexists(folder / name)]
    if found:
        raise UserError(
            f"{folder}: holds {', '.join(found)}, which a run would write over; give {option} a new or empty folder"
        )
