"""attendgen runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attendgen.utils.files import read_text
from attendgen.utils.tables import print_table

if TYPE_CHECKING:
    from attendgen.runs.listing import RunSummary


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of run directories.")] = Path("outputs"),
    bundled: Annotated[bool, typer.Option("--bundled", help="List the models that come with the package.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as CSV.")] = None,
) -> None:
    """List runs or the trials of a sweep: experiment, settings, key metrics, date; mean and std over seeds."""
    if bundled:
        from attendgen.utils.resources import bundled_models

        rows = [[name, describe_model(path)] for name, path in bundled_models().items()]
        print_table(["model", "what it does"], rows)
        return
    from attendgen.runs.listing import find_runs, write_csv

    found = find_runs(folder)
    print_runs(found)
    if csv is not None:
        write_csv(csv, found)


def print_runs(found: list["RunSummary"]) -> None:
    """Print a table of runs, one over their seeds, and the best."""
    from attendgen.runs.listing import find_best, group_by_seed, make_runs_table, make_seeds_table

    print_table(["run", "experiment", "settings", "score", "started"], make_runs_table(found))
    if groups := group_by_seed(found):
        print_table(["settings", "score", "seeds", "mean", "std", "failed"], make_seeds_table(groups))
    best = find_best(found)
    if best is not None and len(found) > 1:
        print(f"best: {best.folder} ({best.metric} {best.score:.4g})")


def describe_model(folder: Path) -> str:
    """Return the first line of a bundled model's README."""
    return read_text(folder / "README.md").strip().split("\n")[0]
