"""Groups of runs that differ in their seed alone, and the settings in which groups differ."""

import contextlib
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from attendgen.runs.listing import RunSummary


class SeedGroup(NamedTuple):
    """The scores of runs that differ in the seed alone, and how many failed."""

    experiment: str
    setting: dict[str, str]
    metric: str
    mode: str
    scores: list[float]
    failed: int

    @property
    def mean(self) -> float | None:
        """The mean score."""
        return statistics.mean(self.scores) if self.scores else None

    @property
    def std(self) -> float | None:
        """The standard deviation of the sample."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def group_runs(runs: Sequence[RunSummary]) -> list[list[RunSummary]]:
    """Group runs that differ in the seed alone; of runs with the same seed the first counts."""
    groups: dict[tuple[str, ...], dict[str | None, RunSummary]] = {}
    for run in runs:
        groups.setdefault(run.group, {}).setdefault(run.seed, run)
    return [list(group.values()) for group in groups.values()]


def group_by_seed(runs: Sequence[RunSummary]) -> list[SeedGroup]:
    """Return the scores of all groups with two seeds or more, the best mean first."""
    found = []
    for group in group_runs(runs):
        if len(group) > 1:
            first = group[0]
            scores = [run.score for run in group if run.score is not None and not run.failed]
            failed = sum(run.failed for run in group)
            found.append(SeedGroup(first.experiment, first.setting, first.metric, first.mode, scores, failed))

    def rank(group: SeedGroup) -> tuple[str, str, bool, float]:
        sign = 1 if group.mode == "min" else -1
        return group.experiment, group.metric, group.mean is None, sign * (group.mean or 0.0)

    return sorted(found, key=rank)


def find_best(runs: Sequence[RunSummary]) -> RunSummary | None:
    """Return the run with the best score, if all have the same experiment and metric."""
    if len({(run.experiment, run.metric) for run in runs}) != 1:
        return None
    scored = [run for run in runs if run.score is not None and not run.failed]
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


def format_settings(setting: dict[str, str], keys: Sequence[str]) -> list[str]:
    """Return the given settings as `key=value`, with short numbers."""
    return [f"{key}={shorten_number(setting[key])}" for key in keys if key in setting]
