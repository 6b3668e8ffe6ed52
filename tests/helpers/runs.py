"""Trainings on tiny data: one of its own, or one that all tests share."""

import re
from pathlib import Path

from attendgen.hydra_app.app import run_hydra
from attendgen.utils.files import lock
from helpers.tiny_data import arguments


def train(folder: Path, experiment: str, *overrides: str, name: str = "run") -> Path:
    """Train an experiment on tiny data in `folder/name` and return this run directory."""
    run_hydra(arguments(experiment, folder, *overrides, name=name))
    return folder / name


class SharedRuns:
    """Runs that are trained for two steps when they are first needed, once per test run; tests must not change them.

    The processes of pytest-xdist share the folder: one of them trains a run, the others wait for it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, experiment: str, *overrides: str) -> Path:
        """Return the run directory of an experiment with overrides."""
        name = "run-" + re.sub(r"[^\w.=-]+", "_", "-".join([experiment, *overrides]))
        with lock(self.folder / f"{name}.lock"):
            if not (self.folder / name).exists():
                train(self.folder, experiment, "trainer=smoke", *overrides, name=name)
        return self.folder / name
