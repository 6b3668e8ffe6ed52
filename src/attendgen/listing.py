"""Tables of runs and of a sweep's trials: settings, scores, mean and deviation over seeds."""

import contextlib
import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from attendgen.errors import UserError
from attendgen.files import read_json, read_yaml, write_text
from attendgen.records import ERROR, TRIAL, read_overrides


@dataclass
class Listed:
    """A run or trial; `score` is its best one so far, None before there is one."""

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
    def shown(self) -> str:
        """Its scores in words."""
        if self.error is not None:
            return f"failed: {self.error}"
        first = f"{self.metric} {self.score:.4g}" if self.score is not None else "not finished"
        return ", ".join([first, *(f"{name} {value:.4g}" for name, value in self.others.items())])

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What it shares with the trials that differ from it in nothing but the seed."""
        chosen = sorted((key, value) for key, value in self.overrides.items() if key != "seed")
        return (("experiment", self.experiment), ("metric", self.metric), *chosen)


class Seeds(NamedTuple):
    """The scores of trials that are equal but for the seed, and how many of these failed."""

    overrides: dict[str, str]
    metric: str
    scores: list[float]
    failed: int

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.scores) if self.scores else None

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def find_runs(folder: Path) -> list[Listed]:
    """The runs and trials below a folder, newest first.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    places = {path.parent for name in ("config.yaml", ERROR.name) for path in folder.rglob(name)}
    found = [run for place in sorted(places) if place.name != ".hydra" and (run := _listed(place))]
    return sorted(found, key=lambda run: run.started, reverse=True)


def _listed(folder: Path) -> Listed | None:
    """What a folder holds, or None if that is no run, or a broken one: the others are still worth listing."""
    try:
        if (folder / "config.yaml").is_file():
            config = read_yaml(folder / "config.yaml")
        else:  # a trial that failed before it had a vocabulary
            config = read_yaml(folder / TRIAL)["config"]
        metric, mode = config["monitor"]["metric"], config["monitor"]["mode"]
        others = {}
        for path in sorted(folder.glob("metrics_*.json")):
            name = f"{path.stem.removeprefix('metrics_')}/{metric.partition('/')[2]}"
            if path.stem != "metrics_fit" and (value := read_json(path).get(name.partition("/")[2])) is not None:
                others[name] = value
        error = _read_if_there(folder / ERROR)
        return Listed(
            folder=folder,
            experiment=str(config.get("name", "")),
            metric=metric,
            mode=mode,
            score=_read_if_there(folder / "metrics_fit.json").get(metric),
            others=others,
            error=error.get("error"),
            started=str(_read_if_there(folder / "environment.json").get("started", error.get("time", ""))),
            overrides=read_overrides(folder),
        )
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def over_seeds(runs: Sequence[Listed]) -> list[Seeds]:
    """Settings that were tried with two seeds or more; of trials with the same seed the first listed counts."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, Listed]] = {}
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
            found.append(Seeds({"experiment": first.experiment, **overrides}, first.metric, scores, failed))
    return found


def best_of(runs: Sequence[Listed]) -> Listed | None:
    """The run with the best score, where all are scored by one metric of one experiment."""
    if len({(run.experiment, run.metric) for run in runs}) != 1:
        return None
    scored = [run for run in runs if run.score is not None and run.error is None]
    sign = -1.0 if scored and scored[0].mode == "min" else 1.0
    return max(scored, key=lambda run: sign * (run.score or 0.0), default=None)


def differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """The keys whose values are not the same everywhere, in their first order."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def short(value: str) -> str:
    """A setting with at most four digits: a search draws many more."""
    with contextlib.suppress(ValueError):
        return value if len(value) < 8 else f"{float(value):.4g}"
    return value


def runs_table(runs: Sequence[Listed]) -> list[list[str]]:
    """Rows of run, experiment, the settings in which the runs differ, score and start."""
    keys = [key for key in differing([run.overrides for run in runs]) if key != "experiment"]
    return [
        [
            str(run.folder),
            run.experiment,
            " ".join(f"{key}={short(run.overrides[key])}" for key in keys if key in run.overrides),
            run.shown,
            run.started[:16].replace("T", " "),
        ]
        for run in runs
    ]


def seeds_table(groups: Sequence[Seeds]) -> list[list[str]]:
    """Rows of settings, metric, number of scores, mean, deviation and failures."""
    keys = differing([group.overrides for group in groups]) or ["experiment"]
    return [
        [
            " ".join(f"{key}={short(group.overrides[key])}" for key in keys if key in group.overrides),
            group.metric,
            str(len(group.scores)),
            "" if group.mean is None else f"{group.mean:.4g}",
            "" if group.deviation is None else f"{group.deviation:.2g}",
            str(group.failed),
        ]
        for group in groups
    ]


def write_csv(path: Path, runs: Sequence[Listed]) -> None:
    """One line a run: where, scores, error, the mean and deviation over its seeds, and a column for each setting."""
    keys = sorted({key for run in runs for key in run.overrides} - {"experiment"})
    groups = {tuple(sorted(group.overrides.items())): group for group in over_seeds(runs)}
    fields = ["run", "experiment", "started", "metric", "score", "error", "seeds", "mean", "deviation"]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*fields, *(f"setting:{key}" for key in keys)], lineterminator="\n")
    writer.writeheader()
    for run in runs:
        rest = {key: value for key, value in run.overrides.items() if key != "seed"}
        group = groups.get(tuple(sorted({"experiment": run.experiment, **rest}.items())))
        seeds = {"seeds": len(group.scores), "mean": group.mean, "deviation": group.deviation} if group else {}
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
