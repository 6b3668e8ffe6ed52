"""What ends a command: a user's mistake, a training that diverges, a signal."""

import errno
import signal
from collections.abc import Sequence


class UserError(Exception):
    """A mistake in the user's input; the message is one line that names the file and the field.

    The command line prints it and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        # a DataLoader's worker passes on its whole traceback as the message: keep the last line of it
        super().__init__(message.rstrip().rsplit(f"{__name__}.UserError: ", 1)[-1])


class DivergedError(Exception):
    """A training whose loss is not finite; the command line prints one line and exits with code 1."""


class Interrupted(BaseException):  # not an error, like KeyboardInterrupt
    """A training that a signal stopped after saving; the command line exits with code 128 + `number`.

    It is not an `Exception`: a sweep that continues after a failed trial must end here.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.number = number


# what to do about a path that the system refuses
REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "give another path",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give another path",
    errno.ENAMETOOLONG: "give a shorter one",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
}


def describe_refusal(error: OSError) -> str:
    """Return why the system refused a path, and what to do about it."""
    reason = error.strerror or str(error)
    remedy = REMEDIES.get(error.errno or 0)
    return reason if remedy is None else f"{reason}; {remedy}"


def format_some(names: Sequence[object], most: int = 5) -> str:
    """Return names with commas between; of more than `most` the others are counted."""
    shown = ", ".join(map(str, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
