"""Mistakes a user can mend."""


class UserError(Exception):
    """A mistake in the user's input; the message is one line that names the file and the field.

    The command line prints it and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        # a DataLoader's worker hands on its whole traceback as the message: keep what was said
        super().__init__(message.rstrip().rsplit(f"{__name__}.UserError: ", 1)[-1])
