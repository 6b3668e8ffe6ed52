"""Run a program with one-line messages and exit codes."""

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from attendgen.utils.errors import DivergedError, Interrupted, UserError

Arguments = ParamSpec("Arguments")


def run_command(command: Callable[[], Any], name: str = "attendgen") -> int:
    """Run a command and return its exit code.

    0 after success, 2 with one line after a user's mistake, 1 after anything else, 130 at Ctrl-C and 143 at SIGTERM.

    Args:
        name: of the program, with which messages begin.
    """
    try:
        code = command()
    except UserError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except Interrupted as signalled:
        print(f"{name}: {signalled}", file=sys.stderr)
        return 128 + signalled.number
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return _report(error, name)
    return code if isinstance(code, int) else 0


def _report(error: Exception, name: str) -> int:
    usage = getattr(error, "format_message", None)  # of the option parser's own errors
    if usage is None:
        traceback.print_exc()
        return 1
    print(f"{name}: {' '.join(usage().split()) or 'a command is missing'}; see --help", file=sys.stderr)
    return 2


def script(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Let a script's `main` end as the command line does; see `run_command`."""

    @functools.wraps(main)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        code = run_command(functools.partial(main, *args, **kwargs), Path(inspect.getfile(main)).stem)
        if code:
            sys.exit(code)

    return run
