"""How OpenMP's threads wait for each other; torch reads it when it is imported."""

import os
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPINS = 2000  # about as long as it takes to wake a thread that sleeps
LOOKS, PAUSE = 3, 0.001  # times at which a busy program is seen, and seconds between them
LOAD = Path("/proc/loadavg")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def choose_waiting(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for others sleep: after a short spin if each has a CPU to itself, otherwise at once.

    By default they spin for milliseconds, and small models then take several times as long if another program needs
    their CPU. On free CPUs they take up to twice as long if threads sleep at once. What the user has set stays.
    """
    if environment.keys() & set(VARIABLES):
        return
    environment["OMP_WAIT_POLICY"] = "passive"
    if has_free_cpus():
        environment["GOMP_SPINCOUNT"] = str(SPINS)


def has_free_cpus(read_load: Callable[[], str] = LOAD.read_text, quota: Path = QUOTA) -> bool:
    """Return whether there is a CPU for each thread of this process beside all that runs; false if that is not known.

    Args:
        read_load: reads how many threads of all programs run, as Linux tells it.
        quota: the CPU time that a container may use, "max" if all.
    """
    try:
        if quota.exists() and quota.read_text().split()[0] != "max":
            return False
        threads = len(os.sched_getaffinity(0))
        running = []
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE)
            running.append(int(read_load().split()[3].split("/")[0]))
    except (OSError, AttributeError, ValueError, IndexError):
        return False
    return min(running) - 1 + threads <= (os.cpu_count() or 1)
