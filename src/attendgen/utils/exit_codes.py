"""How a program ends: one line after a mistake, and an exit code."""

import errno
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from attendgen.utils.errors import DivergedError, Interrupted, UserError, describe_refusal

# what a disk or the rights to a file refuse, wherever it happens
OF_THE_SYSTEM = {
    getattr(errno, name, -1) for name in ["EACCES", "EDQUOT", "ELOOP", "ENAMETOOLONG", "ENOSPC", "EPERM", "EROFS"]
}
# by the allocators of torch and of Python; `repr` begins with the name of the class
OUT_OF_MEMORY = re.compile(
    r"can.t allocate memory: you tried to allocate \d+ bytes|out of memory|MemoryError", re.IGNORECASE
)
PARTLY = 3  # the exit code of a command that could use some of its inputs, but not all
PATIENCE = 10.0  # seconds that the first of several processes has to report an error that all of them meet


def run_command(command: Callable[[], Any], name: str = "attendgen", silent: bool = False, rank: int = 0) -> int:
    """Run a command and return its exit code.

    A command that returns a whole number chooses its code; otherwise it is 0 after success, 2 with one line after a
    user's mistake, 1 after anything else, 130 at Ctrl-C and 143 at SIGTERM.

    Args:
        name: of the program, with which messages begin.
        silent: print no line, because another process of the same training prints it; a traceback is always printed.
        rank: of this process. The first one reports a mistake that all of them meet. Its launcher ends the others, or
            ends; a process that neither happens to has met a mistake of its own, and reports it.
    """
    parent = os.getppid()
    try:
        code = command()
    except Exception as error:
        if get_line(error) is None:
            traceback.print_exc()
        elif not silent and rank == 0:
            print(f"{name}: {get_line(error)}", file=sys.stderr)
        elif not silent and keeps_parent(parent, PATIENCE):
            print(f"{name}: process {rank}: {get_line(error)}", file=sys.stderr)
        return get_code(error)
    except (Interrupted, KeyboardInterrupt) as stopped:
        if not silent and rank == 0:
            print(f"{name}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return get_code(stopped)
    return code if isinstance(code, int) else 0


def keeps_parent(parent: int, seconds: float) -> bool:
    """Return whether this process still has the same parent after some seconds; sooner if it has not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.getppid() == parent:
        time.sleep(0.05)
    return os.getppid() == parent


def get_code(error: BaseException) -> int:
    """Return the exit code of a program that an exception ends."""
    if isinstance(error, Interrupted):
        return 128 + error.number
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, UserError) or _is_usage(error) else 1


def get_line(error: Exception) -> str | None:
    """Return the one line that tells a user of an error; None if only a traceback does."""
    if isinstance(error, UserError | DivergedError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{', '.join(names) or 'the system'}: {describe_refusal(error)}"
    if isinstance(error, MemoryError | RuntimeError) and (needed := OUT_OF_MEMORY.search(f"{error!r} {error}")):
        return f"{needed[0]}; lower --beam, --max-length, data.batch_size or model.hidden"
    if _is_usage(error):
        usage = error.format_message()  # type: ignore[attr-defined]
        line = f"{' '.join(usage.split()) or 'a command is missing'}; see --help"
        return f"{line}; an argument that begins with - stands after --" if "No such option" in usage else line
    return None


def _is_usage(error: BaseException) -> bool:
    """Return whether this is an error of the option parser's."""
    return hasattr(error, "format_message")
