"""How many processes read data."""

import os

MOST_WORKERS = 8


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(devices: int = 1) -> int:
    """Return the number of processes that read for each of some GPUs: a share of the cores, at most `MOST_WORKERS`."""
    return max(1, min(MOST_WORKERS, count_cores() // devices))
