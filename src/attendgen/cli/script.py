"""Let a script end as the command line does."""

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from attendgen.utils.exit_codes import run_command

Arguments = ParamSpec("Arguments")


def script(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Give a script's `main` the one-line messages and exit codes of `run_command`."""

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        code = run_command(functools.partial(main, *args, **kwargs), Path(inspect.getfile(main)).stem)
        if code:
            sys.exit(code)

    return run
