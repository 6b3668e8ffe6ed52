"""Several processes that a launcher, such as torchrun or srun, starts with the same command train one run."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attendgen.runs.layout import HYDRA
from attendgen.utils.errors import UserError
from attendgen.utils.files import write_text
from attendgen.utils.ranks import get_launch, get_rank, name_launch

LAUNCH = Path(HYDRA, "launch.txt")  # what the processes of the start that made the folder have in common
PATIENCE = 300.0  # seconds; a network file system may show a new file after a minute


def require_one_folder(arguments: Sequence[str]) -> None:
    """Check that all processes of a launch will find the same run directory.

    Raises:
        UserError: nothing tells them which, or an empty name is given.
    """
    for option in ("hydra.run.dir", "hydra.sweep.dir"):
        if any(argument.lstrip("+") == f"{option}=" for argument in arguments):
            raise UserError(f"{option}: empty; give a folder")
    is_given = any(argument.lstrip("+").startswith("hydra.run.dir=") for argument in arguments)
    if get_launch() is not None and name_launch() is None and not is_given:
        raise UserError(
            "train: torchrun gave its processes no id by which they could find one run directory; add torchrun "
            "--standalone (one machine) or --rdzv-id NAME, or give hydra.run.dir=DIR"
        )


def announce_folder(folder: Path) -> None:
    """Tell the other processes of this launch that the folder is the run's."""
    launch = get_launch()
    if launch is not None:
        write_text(folder / LAUNCH, launch)


def wait_for_folder(folder: Path, patience: float = PATIENCE) -> None:
    """Wait until the first process of this launch has claimed the folder.

    Raises:
        UserError: it does not, perhaps because the folder holds a run, which it reports.
    """
    launch, end = get_launch(), time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (folder / LAUNCH).read_text(encoding="utf-8") == launch:
                return
        time.sleep(0.05)
    raise UserError(
        f"{folder}: the first process has not begun a run there within {patience:.0f} seconds; see its message"
    )


@contextlib.contextmanager
def report_once() -> Iterator[None]:
    """Let only the first process of a run report its progress."""
    logger = logging.getLogger("attendgen")
    before = logger.level
    if get_rank() > 0:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
