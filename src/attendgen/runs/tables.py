"""Lists of runs as tables on the terminal and as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from attendgen.runs.grouping import SeedGroup, find_differing, format_settings, group_by_seed
from attendgen.runs.listing import RunSummary
from attendgen.utils.files import write_text


def make_runs_table(runs: Sequence[RunSummary]) -> list[list[str]]:
    """Return rows of run, experiment, the settings in which the runs differ, scores, status and start."""
    keys = [key for key in find_differing([run.overrides for run in runs]) if key != "experiment"]
    return [
        [
            str(run.folder),
            run.experiment,
            " ".join(format_settings(run.overrides, keys)),
            run.summary,
            str(run.status),
            run.started[:16].replace("T", " "),
        ]
        for run in runs
    ]


def make_seeds_table(groups: Sequence[SeedGroup]) -> list[list[str]]:
    """Return rows of settings, metric, number of scores, mean, std and failures."""
    settings = [{"experiment": group.experiment, **group.setting} for group in groups]
    keys = find_differing(settings) or ["experiment"]
    return [
        [
            " ".join(format_settings(setting, keys)),
            group.metric,
            str(len(group.scores)),
            "" if group.mean is None else f"{group.mean:.4g}",
            "" if group.std is None else f"{group.std:.2g}",
            str(group.failed),
        ]
        for group, setting in zip(groups, settings, strict=True)
    ]


def write_csv(path: Path, runs: Sequence[RunSummary]) -> None:
    """Write one line per run: folder, scores, status, mean and std over its seeds, and a column per setting."""
    keys = sorted({key for run in runs for key in run.overrides} - {"experiment", "seed"})
    groups = {(group.experiment, group.metric, str(group.setting)): group for group in group_by_seed(runs)}
    scores = sorted({f"{split}/{name}" for run in runs for split, own in run.evaluations.items() for name in own})
    fields = ["run", "experiment", "started", "status", "metric", "score", "error", "seeds", "mean", "std"]
    text = io.StringIO()
    header = [*fields, "setting:seed", *(f"setting:{key}" for key in keys), *scores]
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        group = groups.get((run.experiment, run.metric, str(run.setting)))
        line = {
            "run": run.folder,
            "experiment": run.experiment,
            "started": run.started,
            "status": run.status,
            "metric": run.metric,
            "score": run.score,
            "error": run.status.reason if run.failed else None,
            **({"seeds": len(group.scores), "mean": group.mean, "std": group.std} if group else {}),
            "setting:seed": run.seed,
            **{f"setting:{key}": value for key, value in run.overrides.items() if key in keys},
            **{f"{split}/{name}": value for split, own in run.evaluations.items() for name, value in own.items()},
        }
        writer.writerow(line)
    write_text(path, text.getvalue())
