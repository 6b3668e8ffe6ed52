"""What a section is given: a device, the time that is left, and the file of results."""

import gc
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attendgen.utils.files import read_json, write_json

RESULTS = "gpu.json"
LOG = "gpu.log"
UNMEASURED = "not measured"

Row = dict[str, Any]


class Session:
    """The place of a section in a run of the benchmark.

    Args:
        section: its name.
        folder: where the results are written.
        quick: compute on the CPU with tiny sizes.
        seconds: that the section may take.
    """

    def __init__(self, section: str, folder: Path, quick: bool, seconds: float) -> None:
        self.section = section
        self.folder = folder
        self.quick = quick
        self.ends = time.monotonic() + seconds

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return torch.device("cpu" if self.quick else "cuda")

    def choose(self, full: Any, quick: Any) -> Any:
        """Return a size for the device, or the tiny one."""
        return quick if self.quick else full

    def measure_left(self) -> float:
        """Return the seconds that are left."""
        return self.ends - time.monotonic()

    def add(self, name: str, **figures: Any) -> None:
        """Write a row."""
        add_rows(self.folder, [{"section": self.section, "row": name, **figures}])

    def attempt(self, name: str, measure: Callable[[], Row], least: float = 1.0, **labels: Any) -> Row | None:
        """Write what a function measures as a row, or the last line of its error; return the figures.

        Args:
            least: seconds that must be left for it.
            labels: further columns of the row.
        """
        if self.measure_left() < least:
            self.add(name, **labels, error=f"{UNMEASURED}: the time of the section was over")
            return None
        started, figures = time.monotonic(), None
        try:
            figures = measure()
            self.add(name, **labels, **figures, seconds=round(time.monotonic() - started, 2))
        except Exception as error:
            traceback.print_exc()
            self.add(name, **labels, error=get_last_line(error))
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        return figures


def get_last_line(error: BaseException) -> str:
    """Return the kind of an error and the last line of its message, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"[:300]


def add_rows(folder: Path, rows: list[Row]) -> None:
    """Append rows to the file of results, which is replaced as a whole."""
    results = read_results(folder)
    write_json(folder / RESULTS, {**results, "rows": [*results["rows"], *json.loads(json.dumps(rows, default=str))]})


def read_results(folder: Path) -> dict[str, Any]:
    """Return the results so far."""
    path = folder / RESULTS
    results: dict[str, Any] = read_json(path) if path.exists() else {"rows": []}
    return results


def write_to_log(folder: Path) -> None:
    """Send all that this process and its children print to the log file."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
