"""What ends a command: mistakes a user can mend, a training that diverges, a signal."""

import functools
import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class UserError(Exception):
    """A mistake in the user's input; the message is one line that names the file and the field.

    The command line prints it and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        # a DataLoader's worker hands on its whole traceback as the message: keep what was said
        super().__init__(message.rstrip().rsplit(f"{__name__}.UserError: ", 1)[-1])


class Diverged(Exception):
    """A training whose loss is no number any more; the command line prints the one line and exits with code 1."""


class Interrupted(BaseException):
    """A training that stopped at a signal, after saving; the command line exits with code 128 + `number`.

    No `Exception`: a sweep that goes on after a failed trial must end here.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.number = number


def script(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """A script's `main` that ends a user's mistake with one line and exit code 2, as the command line does."""

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"{Path(inspect.getfile(main)).stem}: {error}", file=sys.stderr)
            sys.exit(2)

    return run
