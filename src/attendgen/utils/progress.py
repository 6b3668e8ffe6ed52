"""How far a long command is: a bar on a terminal, a plain line now and then in a file."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")

EVERY = 10.0  # seconds between two plain lines
DELAY = 0.5  # seconds before a bar is drawn: a short job has none


class Progress:
    """Shows how many units of a job are done, on standard error; used as a context.

    Args:
        what: name of the job.
        unit: what is counted, in the plural.
        total: number of all units; None if it is not known.
        done: units that an earlier command has done.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0) -> None:
        self.what = what
        self.unit = unit
        self.total = total
        self.done = self.first = done
        self.started = self.shown = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            scaled = unit == "bytes"
            self.bar = tqdm(
                desc=what, unit=f" {unit}", unit_scale=scaled, total=total, initial=done, leave=False, delay=DELAY
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def add(self, count: int) -> None:
        """Note that more units are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.shown > EVERY:
            self.shown = time.monotonic()
            print(self.describe(), file=sys.stderr, flush=True)

    def describe(self) -> str:
        """Return the progress as one line."""
        rate = (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.what}: {self.done:,}{of} {self.unit}, {rate:.3g} per second"


def track(items: Iterable[T], what: str, unit: str) -> Iterator[T]:
    """Yield items, and show how many of them are done.

    Args:
        what: name of the job.
        unit: what the items are, in the plural.
    """
    with Progress(what, unit, len(items) if isinstance(items, Sized) else None) as progress:
        for item in items:
            yield item
            progress.add(1)
