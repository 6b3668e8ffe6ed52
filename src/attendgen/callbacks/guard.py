"""Errors of what only shows a training become a warning."""

import contextlib
import logging
from collections.abc import Iterator

from attendgen.config.instantiate import get_first_line

log = logging.getLogger(__name__)


class Guard:
    """Let a training go on when a sample, a figure or a logger fails; the first error is logged as a warning.

    Args:
        what: what is left out, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.warned = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Catch the errors of a block."""
        try:
            yield
        except Exception as error:  # of a library or of code of the user's own: any
            if not self.warned:
                cause = f"{type(error).__name__}: {get_first_line(error)}"
                log.warning("%s left out, the training goes on; %s", self.what, cause)
            self.warned = True
