"""The runs and trials below a folder: settings, scores, how they ended."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attendgen.runs.layout import CONFIG, ENVIRONMENT, ERROR, FIT_METRICS, HYDRA, METRICS, TRIAL, read_overrides
from attendgen.runs.status import FAILED, RunStatus, read_status
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_yaml

PLACES = ("data.root", "data.cache", "paths.", "hydra.", "hydra/")  # where things are: no settings of an experiment


@dataclass
class RunSummary:
    """A run or trial.

    Attributes:
        metric: the score that selects the best checkpoint; `mode` is "min" or "max".
        score: its best value so far, None before the first validation.
        evaluations: scores by split, with the tag if there is one: "val", "val.beam5".
        status: how it ended.
        seed: from its config, so that a default counts, too.
        overrides: settings given on its command line.
    """

    folder: Path
    experiment: str
    metric: str
    mode: str
    score: float | None
    evaluations: dict[str, dict[str, float]]
    status: RunStatus
    started: str
    seed: str | None
    overrides: dict[str, str]

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.status.state == FAILED

    @property
    def others(self) -> dict[str, float]:
        """The values of the metric in evaluations, by split and name."""
        name = self.metric.partition("/")[2]
        return {f"{split}/{name}": scores[name] for split, scores in self.evaluations.items() if name in scores}

    @property
    def summary(self) -> str:
        """The scores in words."""
        first = [] if self.score is None or self.failed else [f"{self.metric} {self.score:.4g}"]
        return ", ".join([*first, *(f"{name} {value:.4g}" for name, value in self.others.items())])

    @property
    def setting(self) -> dict[str, str]:
        """The settings in which runs are compared: the overrides without seed, experiment and places."""
        left_out = ("seed", "experiment")
        pairs = sorted(self.overrides.items())
        return {key: value for key, value in pairs if key not in left_out and not key.startswith(PLACES)}

    @property
    def group(self) -> tuple[str, ...]:
        """What runs that differ in their seed alone have in common."""
        return (self.experiment, self.metric, *(f"{key}={value}" for key, value in self.setting.items()))

    def __repr__(self) -> str:
        return f"RunSummary({str(self.folder)!r}, {self.summary or 'no score'}, {self.status})"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**vars(self), "folder": str(self.folder), "status": str(self.status)}


class RunList(list[RunSummary]):
    """Runs, newest first."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no runs"

    def to_csv(self, path: str | Path) -> None:
        """Write one line per run, see `write_csv`."""
        from attendgen.runs.tables import write_csv

        write_csv(Path(path), self)

    def to_json(self) -> str:
        """Return all runs as JSON."""
        return json.dumps([run.to_dict() for run in self], ensure_ascii=False)


def find_runs(folder: str | Path) -> RunList:
    """Return the runs and trials below a folder, newest first.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that holds runs")
    folders = {path.parent for name in (CONFIG, ERROR) for path in folder.rglob(name)}
    found = [run for folder in sorted(folders) if folder.name != HYDRA and (run := _read_run(folder))]
    return RunList(sorted(found, key=lambda run: run.started, reverse=True))


def _read_run(folder: Path) -> RunSummary | None:
    """Return the run in a folder, or None if there is none or it is broken; the others are still listed."""
    try:
        if (folder / CONFIG).is_file():
            config = read_yaml(folder / CONFIG)
        else:  # a trial that failed before it had a vocabulary
            config = read_yaml(folder / TRIAL)["config"]
        metric, mode = config["monitor"]["metric"], config["monitor"]["mode"]
        overrides = read_overrides(folder)
        seed = config.get("seed", overrides.get("seed"))
        error = _read_if_exists(folder / ERROR)
        return RunSummary(
            folder=folder,
            experiment=str(config.get("name", "")),
            metric=metric,
            mode=mode,
            score=_read_if_exists(folder / FIT_METRICS).get(metric),
            evaluations=_read_evaluations(folder),
            status=read_status(folder),
            started=str(_read_if_exists(folder / ENVIRONMENT).get("started", error.get("time", ""))),
            seed=None if seed is None else str(seed),
            overrides=overrides,
        )
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _read_evaluations(folder: Path) -> dict[str, dict[str, float]]:
    before, after = METRICS.split("{split}")
    found = {}
    for path in sorted(folder.glob(METRICS.format(split="*"))):
        if path.name != FIT_METRICS:
            scores = {name: value for name, value in read_json(path).items() if isinstance(value, int | float)}
            found[path.name.removeprefix(before).removesuffix(after)] = scores
    return found


def _read_if_exists(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
