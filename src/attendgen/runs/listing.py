"""Lists of runs and of a sweep's trials: settings, scores, mean and standard deviation over seeds."""

import contextlib
import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from attendgen.runs.layout import CONFIG, ENVIRONMENT, ERROR, FIT_METRICS, HYDRA, METRICS, TRIAL, read_overrides
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_yaml, write_text


@dataclass
class RunSummary:
    """A run or trial; `score` is its best score so far, None before the first validation."""

    folder: Path
    experiment: str
    metric: str
    mode: str
    score: float | None
    others: dict[str, float]
    error: str | None
    started: str
    overrides: dict[str, str]

    @property
    def summary(self) -> str:
        """Return the scores in words."""
        if self.error is not None:
            return f"failed: {self.error}"
        first = f"{self.metric} {self.score:.4g}" if self.score is not None else "not finished"
        return ", ".join([first, *(f"{name} {value:.4g}" for name, value in self.others.items())])

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """Return the grouping key: all overrides except the seed."""
        chosen = sorted((key, value) for key, value in self.overrides.items() if key != "seed")
        return (("experiment", self.experiment), ("metric", self.metric), *chosen)


class SeedGroup(NamedTuple):
    """The scores of trials that differ in the seed alone, and how many failed."""

    overrides: dict[str, str]
    metric: str
    scores: list[float]
    failed: int

    @property
    def mean(self) -> float | None:
        """Return the mean score."""
        return statistics.mean(self.scores) if self.scores else None

    @property
    def std(self) -> float | None:
        """Return the standard deviation of the sample."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def find_runs(folder: Path) -> list[RunSummary]:
    """Return the runs and trials below a folder, newest first.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    folders = {path.parent for name in (CONFIG, ERROR) for path in folder.rglob(name)}
    found = [run for folder in sorted(folders) if folder.name != HYDRA and (run := _read_run(folder))]
    return sorted(found, key=lambda run: run.started, reverse=True)


def _read_run(folder: Path) -> RunSummary | None:
    """Return the run in a folder, or None if there is none or it is broken; the others are still listed."""
    try:
        if (folder / CONFIG).is_file():
            config = read_yaml(folder / CONFIG)
        else:  # a trial that failed before it had a vocabulary
            config = read_yaml(folder / TRIAL)["config"]
        metric, mode = config["monitor"]["metric"], config["monitor"]["mode"]
        others = {}
        before, after = METRICS.split("{split}")
        for path in sorted(folder.glob(METRICS.format(split="*"))):
            name = f"{path.name.removeprefix(before).removesuffix(after)}/{metric.partition('/')[2]}"
            if path.name != FIT_METRICS and (value := read_json(path).get(name.partition("/")[2])) is not None:
                others[name] = value
        error = _read_if_exists(folder / ERROR)
        return RunSummary(
            folder=folder,
            experiment=str(config.get("name", "")),
            metric=metric,
            mode=mode,
            score=_read_if_exists(folder / FIT_METRICS).get(metric),
            others=others,
            error=error.get("error"),
            started=str(_read_if_exists(folder / ENVIRONMENT).get("started", error.get("time", ""))),
            overrides=read_overrides(folder),
        )
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _read_if_exists(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def group_by_seed(runs: Sequence[RunSummary]) -> list[SeedGroup]:
    """Group trials with two seeds or more by their other settings; of trials with the same seed the first counts."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, RunSummary]] = {}
    for run in runs:
        if "seed" in run.overrides:
            groups.setdefault(run.setting, {}).setdefault(run.overrides["seed"], run)
    found = []
    for group in groups.values():
        if len(group) > 1:
            first = next(iter(group.values()))
            overrides = {key: value for key, value in first.overrides.items() if key != "seed"}
            scores = [run.score for run in group.values() if run.score is not None and run.error is None]
            failed = sum(run.error is not None for run in group.values())
            found.append(SeedGroup({"experiment": first.experiment, **overrides}, first.metric, scores, failed))
    return found


def find_best(runs: Sequence[RunSummary]) -> RunSummary | None:
    """Return the run with the best score, if all have the same experiment and metric."""
    if len({(run.experiment, run.metric) for run in runs}) != 1:
        return None
    scored = [run for run in runs if run.score is not None and run.error is None]
    sign = -1.0 if scored and scored[0].mode == "min" else 1.0
    return max(scored, key=lambda run: sign * (run.score or 0.0), default=None)


def find_differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """Return the keys whose values differ, in order of first occurrence."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def shorten_number(value: str) -> str:
    """Shorten a number to four digits; a search draws many more."""
    with contextlib.suppress(ValueError):
        return value if len(value) < 8 else f"{float(value):.4g}"
    return value


def make_runs_table(runs: Sequence[RunSummary]) -> list[list[str]]:
    """Return rows of run, experiment, the settings in which the runs differ, score and start."""
    keys = [key for key in find_differing([run.overrides for run in runs]) if key != "experiment"]
    return [
        [
            str(run.folder),
            run.experiment,
            " ".join(f"{key}={shorten_number(run.overrides[key])}" for key in keys if key in run.overrides),
            run.summary,
            run.started[:16].replace("T", " "),
        ]
        for run in runs
    ]


def make_seeds_table(groups: Sequence[SeedGroup]) -> list[list[str]]:
    """Return rows of settings, metric, number of scores, mean, std and failures."""
    keys = find_differing([group.overrides for group in groups]) or ["experiment"]
    return [
        [
            " ".join(f"{key}={shorten_number(group.overrides[key])}" for key in keys if key in group.overrides),
            group.metric,
            str(len(group.scores)),
            "" if group.mean is None else f"{group.mean:.4g}",
            "" if group.std is None else f"{group.std:.2g}",
            str(group.failed),
        ]
        for group in groups
    ]


def write_csv(path: Path, runs: Sequence[RunSummary]) -> None:
    """Write one line per run: folder, scores, error, mean and std over its seeds, and a column per setting."""
    keys = sorted({key for run in runs for key in run.overrides} - {"experiment"})
    groups = {tuple(sorted(group.overrides.items())): group for group in group_by_seed(runs)}
    fields = ["run", "experiment", "started", "metric", "score", "error", "seeds", "mean", "std"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*fields, *(f"setting:{key}" for key in keys)], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        rest = {key: value for key, value in run.overrides.items() if key != "seed"}
        group = groups.get(tuple(sorted({"experiment": run.experiment, **rest}.items())))
        seeds = {"seeds": len(group.scores), "mean": group.mean, "std": group.std} if group else {}
        line = {
            "run": run.folder,
            "experiment": run.experiment,
            "started": run.started,
            "metric": run.metric,
            "score": run.score,
            "error": run.error,
            **seeds,
            **{f"setting:{key}": value for key, value in run.overrides.items() if key in keys},
        }
        writer.writerow(line)
    write_text(path, text.getvalue())
