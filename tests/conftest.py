"""Fixtures of all tests; shapes and types in signatures are checked at run time, in tests only."""

import atexit
import functools
import gc
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.errors import Command
    from helpers.runs import SharedRuns

WORKER = "PYTEST_XDIST_WORKER"  # set in the processes of pytest -n


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a process that runs tests; the one of pytest -n that only hands them out imports nothing."""
    if config.getoption("numprocesses", None) and WORKER not in os.environ:
        return
    gc.set_threshold(50_000, 10, 10)  # collecting garbage takes a tenth of the time otherwise

    from helpers.type_checks import check_types

    check_types("attendgen")  # before anything of it is imported

    import torch

    from helpers.hydra_speed import compose_faster

    compose_faster()
    # what is installed stays so; each run records it
    metadata.version = functools.cache(metadata.version)
    metadata.packages_distributions = functools.cache(metadata.packages_distributions)
    if WORKER in os.environ:  # they share the cores, also those of the commands that tests start
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        atexit.register(os._exit, 0)  # the last handler; freeing all modules takes seconds


def pytest_collection_finish() -> None:
    """Let garbage collection pass over what was imported."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the end of the process free what was imported; those of pytest -n end without."""
    if WORKER not in os.environ:
        gc.unfreeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    if torch.cuda.is_initialized():
        torch.manual_seed(0)
    else:  # otherwise PyTorch keeps a traceback of each call for a GPU that may be used later
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let each test have settings of the user's own, so that no test trusts a package for another, or for the user."""
    folder = tmp_path_factory.getbasetemp() / "settings" / uuid.uuid4().hex  # made when it is written to
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))


@pytest.fixture(autouse=True)
def _java(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave METEOR out, whose program takes seconds to start, of tests without the mark `java`."""
    if request.node.get_closest_marker("java") is None:
        monkeypatch.setattr("attendgen.metrics.meteor.is_java_present", lambda: False)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Remove the log files that Hydra opens: a failed run's folder is deleted."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before


@pytest.fixture
def shared() -> Path:
    """The folder of data and checkpoints beside the repository, where there is one."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> "SharedRuns":
    """Runs that all tests share: `runs("toy_chat", "model.hidden=12")` is a run directory."""
    from helpers.runs import SharedRuns

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if WORKER in os.environ else base) / "runs"
    folder.mkdir(exist_ok=True)
    return SharedRuns(folder)


@pytest.fixture(name="train")
def train_in_folder(tmp_path: Path) -> Callable[..., Path]:
    """Train an experiment on tiny data: `train("novels", "steps=3", name="one")` returns `tmp_path/one`."""
    from helpers.runs import train

    def run(experiment: str, *overrides: str, name: str = "run") -> Path:
        return train(tmp_path, experiment, *overrides, name=name)

    return run


@pytest.fixture
def attendgen(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Command":
    """Run the command line in this process: `attendgen("generate", RUN, TEXT)` is an `Outcome`."""
    from helpers.errors import Outcome

    def run(*arguments: str | Path) -> Outcome:
        from attendgen.cli.app import main

        capfd.readouterr()  # what was printed before, as by the training of a shared run, is not the command's
        monkeypatch.setattr(sys, "argv", ["attendgen", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(int(stop.value.code or 0), *capfd.readouterr())

    return run
