"""What ends a command: mistakes a user can mend, a training that diverges, a signal."""

import signal


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
