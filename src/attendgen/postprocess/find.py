"""Opening the runs that a command combines."""

from collections.abc import Sequence
from pathlib import Path

from attendgen.runs.run import Run
from attendgen.runs.save import require_new
from attendgen.text.saved import describe
from attendgen.utils.errors import UserError


def find_compatible_runs(command: str, names: Sequence[str], folder: Path) -> list[Run]:
    """Open runs of one family and vocabulary, from which a command makes one in a new folder.

    Raises:
        UserError: there are fewer than two; they differ in family or vocabulary; one is an ensemble; or the folder
            holds a run.
    """
    if len(names) < 2:
        raise UserError(f"{command}: name two runs or more")
    require_new(folder)
    runs = [Run.find(name) for name in names]
    first = runs[0]
    for name, run in zip(names, runs, strict=True):
        if run.family != first.family:
            raise UserError(f"{name}: family {run.family}; {names[0]} has {first.family}; combine models of one family")
        if describe(run.vocabulary) != describe(first.vocabulary):
            raise UserError(
                f"{name}: vocabulary: other tokens than those of {names[0]}; combine runs that share a vocabulary"
            )
        if "members" in run.config.model:
            raise UserError(f"{name}: model.members: an ensemble itself; name its members")
    return runs
