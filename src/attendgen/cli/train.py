"""attendgen train."""

from pathlib import Path
from typing import Annotated

import typer

GROUPS = ("experiment", "ablation", "sweep", "trainer", "data", "model", "task", "decoding")

HELP = """Usage: attendgen train experiment=NAME [KEY=VALUE ...] [-m]

Trains what the config describes, in outputs/NAME/<date_time>/. A Hydra application:
  attendgen train experiment=toy_chat epochs=20     change any setting
  attendgen train -m experiment=toy_chat seed=1,2,3             one run per value
  attendgen train sweep=toy_chat                                search with Optuna
  attendgen train experiment=toy_chat --cfg job                 print the config, train nothing
  attendgen train resume=RUN                                    continue an interrupted run
  attendgen train experiment=NAME hydra.run.dir=DIR resume=auto                  start or continue
  attendgen train like=RUN seed=2                   a new run with the settings of a saved one
  attendgen train resume=RUN --trust PACKAGE                    ... that names code of this package
"""


def train(arguments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]")] = None) -> int:
    """Train a model: attendgen train experiment=NAME [key=value ...] [-m]."""
    arguments = arguments or []
    if "--help" in arguments or "-h" in arguments:
        print_train_help()
        return 0
    from attendgen.hydra_app.app import run_hydra

    sweep = run_hydra(arguments)
    return 0 if sweep is None else print_sweep(sweep)


def print_train_help() -> None:
    """Print what can be trained and changed."""
    from attendgen.utils.resources import get_conf_dir

    print(HELP)
    for group in GROUPS:
        names = sorted(path.stem for path in (get_conf_dir() / group).glob("*.yaml"))
        print(f"{group}=  {' '.join(names)}")
    print("\n--hydra-help lists Hydra's own options.")


def print_sweep(folder: Path) -> int:
    """Print the trials of a sweep; return exit code 1 if one failed."""
    from attendgen.cli.runs import print_runs
    from attendgen.runs.listing import find_runs

    trials = find_runs(folder)
    print_runs(trials)
    trained = sum(not trial.failed for trial in trials)
    print(f"{trained} of {len(trials)} trials trained; again: attendgen runs {folder}")
    return 0 if trained == len(trials) else 1
