"""How many processes read data."""

import os

from attendgen.utils.errors import UserError

MOST_WORKERS = 8


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(devices: int = 1) -> int:
    """Return the number of processes that read for each of some GPUs: a share of the cores, at most `MOST_WORKERS`."""
    return max(1, min(MOST_WORKERS, count_cores() // devices))


def require_workers(workers: object) -> None:
    """Check a number of processes.

    Raises:
        UserError: it is neither a whole number nor "auto".
    """
    if workers != "auto" and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
        raise UserError(f"data.workers={workers}: expected a whole number from 0, or auto")
