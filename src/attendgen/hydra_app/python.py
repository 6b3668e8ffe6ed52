"""Training from Python."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from attendgen.config.trust import VARIABLE
from attendgen.hydra_app.app import run_hydra
from attendgen.hydra_app.callbacks import RunFolder
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError

SWEEPS = ("-m", "--multirun", "sweep=")


def train(overrides: Sequence[str]) -> Run:
    """Train a run as `attendgen train` does, and return it.

    The process is left as it was: `sys.argv`, environment and log handlers are restored.

    Args:
        overrides: arguments of the command, such as "experiment=toy_chat", "epochs=20", or "resume=RUN".

    Raises:
        UserError: an argument, the config or the data is wrong, or the arguments train no single run.
    """
    if isinstance(overrides, str):
        raise UserError(f'train: {overrides!r} is one text; give a list, as ["experiment=toy_chat", "epochs=20"]')
    arguments = [str(override) for override in overrides]
    if any(argument.startswith(SWEEPS) for argument in arguments):
        raise UserError("train: a sweep trains several runs; call it for each, or use the command attendgen train -m")
    RunFolder.reset()
    with restore_process():
        run_hydra(arguments)
    resumed = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    folder = resumed[-1] if resumed else RunFolder.path
    if folder is None:
        raise UserError(
            f"train: no run was trained by {' '.join(arguments) or 'no arguments'}; leave out what only prints"
        )
    return Run.find(folder)


@contextlib.contextmanager
def restore_process() -> Iterator[None]:
    """Restore what Hydra and the logging of a run change in a process."""
    arguments, environment = sys.argv, dict(os.environ)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        sys.argv = arguments
        trusted = {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}  # from now on
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment | trusted)
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
