"""Where runs are, and the folder in which one starts: what is there before stays unchanged."""

import os
from pathlib import Path

from attendgen.runs.layout import FILES, FOLDERS, is_run_folder
from attendgen.utils.errors import UserError
from attendgen.utils.resources import bundled_models


def require_run(name: str | Path) -> None:
    """Check that a name is that of a run directory, a checkpoint or a bundled model.

    Raises:
        UserError: nothing is there.
    """
    path = Path(name)
    if not path.is_dir() and not path.is_file() and str(name) not in bundled_models():
        raise UserError(f"{path}: no such run directory, checkpoint or bundled model")


def names_run(name: str) -> bool:
    """Return whether a name is that of a run: its folder, a checkpoint or a bundled model."""
    path = Path(name)
    return is_run_folder(path) or path.suffix == ".ckpt" or (not path.exists() and name in bundled_models())


def require_no_run(folder: Path, option: str) -> None:
    """Check that a folder holds no run.

    Args:
        option: what the message advises to change.

    Raises:
        UserError: it holds one.
    """
    if is_run_folder(folder):
        raise UserError(f"{folder}: holds a run already; continue it with resume={folder}, or give another {option}")


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
