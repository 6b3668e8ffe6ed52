"""attendgen runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text, write_text
from attendgen.utils.tables import print_table

if TYPE_CHECKING:
    from attendgen.runs.listing import RunSummary


def runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of run directories.")] = Path("outputs"),
    bundled: Annotated[bool, typer.Option("--bundled", help="List the models that come with the package.")] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME...", help="Scores of evaluations, as columns; the first one sorts the rows."),
    ] = None,
    split: Annotated[str, typer.Option(help="The split that was evaluated.")] = "val",
    tag: Annotated[str, typer.Option(help="The tag of the evaluations, as beam5; default: the runs' own search.")] = "",
    by: Annotated[str, typer.Option(help="A row per run, or per setting with mean and deviation over seeds.")] = "run",
    style: Annotated[str, typer.Option("--format", help="table, csv, md or latex.")] = "table",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table here; default: print.")] = None,
    commands: Annotated[bool, typer.Option("--commands", help="Also print the commands that train the runs.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all runs and scores as CSV.")] = None,
) -> None:
    """List runs or the trials of a sweep, or make a table of their scores for a paper."""
    if bundled:
        from attendgen.utils.resources import bundled_models

        rows = [[name, describe_model(path)] for name, path in bundled_models().items()]
        print_table(["model", "what it does"], rows)
        return
    from attendgen.runs.listing import find_runs
    from attendgen.runs.tables import write_csv

    found = find_runs(folder)
    if metrics:
        label = f"{split}.{tag}" if tag else split
        write_score_table(folder, found, metrics, label, by, style, output, commands)
    elif style != "table" or by != "run" or output or tag or commands:
        raise UserError("--metrics: missing; a table needs names of scores, as --metrics bleu chrf")
    else:
        print_runs(found)
    if csv is not None:
        write_csv(csv, found)


def write_score_table(
    folder: Path,
    found: Sequence["RunSummary"],
    metrics: Sequence[str],
    label: str,
    by: str,
    style: str,
    output: Path | None,
    commands: bool,
) -> None:
    """Print or write a table of scores; runs without an evaluation of the split are named and left out.

    Raises:
        UserError: no run has such an evaluation or score, or a choice is unknown.
    """
    from attendgen.runs.commands import make_commands
    from attendgen.runs.layout import METRICS
    from attendgen.runs.score_table import find_scores, make_score_table

    missing = METRICS.format(split=label)
    scored = [run for run in found if find_scores(run, label) is not None]
    for run in found:
        if run not in scored:
            print(f"{run.folder}: no {missing}; left out; attendgen evaluate writes it", file=sys.stderr)
    if not scored:
        raise UserError(f"{folder}: no run with {missing}; evaluate one first")
    text = make_score_table(scored, metrics, label, by).render(style)
    if output is not None:
        write_text(output, text)
    else:
        print(text, end="")
    if commands:
        print("\n" + "\n".join(make_commands(scored)))


def print_runs(found: Sequence["RunSummary"]) -> None:
    """Print a table of runs, one over their seeds, and the best."""
    from attendgen.runs.grouping import find_best, group_by_seed
    from attendgen.runs.tables import make_runs_table, make_seeds_table

    print_table(["run", "experiment", "settings", "score", "status", "started"], make_runs_table(found))
    if groups := group_by_seed(found):
        print_table(["settings", "score", "seeds", "mean", "std", "failed"], make_seeds_table(groups))
    best = find_best(found)
    if best is not None and len(found) > 1:
        print(f"best: {best.folder} ({best.metric} {best.score:.4g})")


def describe_model(folder: Path) -> str:
    """Return the first line of a bundled model's README."""
    return read_text(folder / "README.md").strip().split("\n")[0]
