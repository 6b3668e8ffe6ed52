"""Several processes that a launcher, such as torchrun or srun, starts with the same command train one run."""

import contextlib
import logging
import os
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
def start_by_script() -> Iterator[None]:
    """Let Lightning start the processes of further devices by the script in `sys.argv`, and let them find all packages.

    Lightning starts a program that was started as `python -m NAME` as the same module, whatever `sys.argv` says. A
    process finds packages beside its own script, but not those beside the script of this process.
    """
    main: Any = sys.modules["__main__"]
    spec, before = getattr(main, "__spec__", None), os.environ.get("PYTHONPATH")
    known = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "scripts")]
    own = [Path(entry).absolute() for entry in sys.path if not entry.endswith(".zip")]
    new = [str(entry) for entry in own if not any(entry.is_relative_to(folder) for folder in known)]
    places = dict.fromkeys([*new, *(before.split(os.pathsep) if before else [])])
    main.__spec__ = None
    if places:
        os.environ["PYTHONPATH"] = os.pathsep.join(places)
    try:
        yield
    finally:
        main.__spec__ = spec
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


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
