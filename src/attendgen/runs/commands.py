"""The commands that train runs again."""

import math
from collections.abc import Sequence

from attendgen.runs.layout import read_arguments
from attendgen.runs.listing import RunSummary

QUOTED = ("data.root", "init_from", "paths.data")  # places of one machine, quoted as DIR
LEFT_OUT = ("paths.", "hydra.", "hydra/")  # where runs are written and who starts them


def make_commands(runs: Sequence[RunSummary]) -> list[str]:
    """Return one sweep per experiment whose runs are all combinations of their values, else one command per run."""
    commands: list[str] = []
    arguments = {str(run.folder): _read_quoted_arguments(run) for run in runs}
    for experiment in dict.fromkeys(run.experiment for run in runs):
        own = [arguments[str(run.folder)] for run in runs if run.experiment == experiment]
        values: dict[str, dict[str, None]] = {}  # of each key, in the order given
        for each in own:
            for argument in each:
                key, _, value = argument.partition("=")
                values.setdefault(key, {})[value] = None
        if len(own) > 1 and len(own) == math.prod(map(len, values.values())):
            commands.append(" ".join(["attendgen train -m", *(f"{key}={','.join(values[key])}" for key in values)]))
        else:
            commands += [" ".join(["attendgen train", *each]) for each in own]
    return commands


def _read_quoted_arguments(run: RunSummary) -> list[str]:
    """Return a run's command line, with places of this machine replaced."""
    found = []
    for argument in read_arguments(run.folder):
        key = argument.partition("=")[0]
        if key in QUOTED:
            found.append(f"{key}=DIR")
        elif not key.startswith(LEFT_OUT):
            found.append(argument)
    return found
