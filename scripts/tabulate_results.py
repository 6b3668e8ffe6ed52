"""A Markdown table of a sweep's scores: one row a setting, mean and std over seeds.

    attendgen train -m experiment=flickr8k_soft data.root=DIR seed=1,2,3 model.context_gate=none,scalar
    for run in SWEEP/*/; do attendgen evaluate "$run" --split dev decoding.beam_size=5; done
    python scripts/tabulate_results.py SWEEP --split dev --out docs/results_flickr8k.md

A setting is what the runs' command lines differ in, the seed apart; of several runs with the same setting and seed the
last counts. Runs without `metrics_<split>.json` are named and left out. The document quotes the commands that make the
runs again.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from attendgen.cli.script import script
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text, write_text

PLACES = ("data.root=", "init_from=")  # of one machine
OURS = ("paths.", "hydra.", "hydra/")  # where runs are put and who trains them
PERCENT = ("bleu1", "bleu2", "bleu3", "bleu4", "bleu4_nobp", "meteor", "rouge_l")


class Trial(NamedTuple):
    """A run of a sweep."""

    experiment: str
    seed: int
    scores: dict[str, float]
    given: tuple[str, ...]  # the command line's key=value, DIR for places

    @property
    def settings(self) -> tuple[str, ...]:
        """What the trial tries."""
        return tuple(sorted(item for item in self.given if not item.startswith((*PLACES, "experiment=", "seed="))))


def read_trial(folder: Path, split: str) -> Trial | None:
    """A run's settings and scores; None if it has not been scored."""
    path = folder / f"metrics_{split}.json"
    if not path.is_file():
        return None
    overrides = yaml.safe_load(read_text(folder / ".hydra" / "overrides.yaml")) or []
    config = yaml.safe_load(read_text(folder / "config.yaml"))
    given = (item for item in overrides if not item.startswith(OURS))
    given = (f"{item.partition('=')[0]}=DIR" if item.startswith(PLACES) else item for item in given)
    return Trial(config["name"], config["seed"], read_json(path), tuple(given))


def summary(values: Sequence[float], factor: float) -> str:
    """MeanAttention, and the standard std of a sample where there is more than one value."""
    digits = 1 if factor == 100 else 3
    mean = f"{factor * statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {factor * statistics.stdev(values):.{digits}f}"


def table(trials: Sequence[Trial], metrics: Sequence[str]) -> list[str]:
    """One row for each experiment and setting, the best first metric on top."""
    groups: dict[tuple[str, tuple[str, ...]], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.experiment, trial.settings), []).append(trial)
    shared = set.intersection(*(set(trial.settings) for trial in trials)) if len(groups) > 1 else set()

    def score(group: list[Trial], metric: str) -> list[float]:
        return [trial.scores[metric] for trial in group if metric in trial.scores]

    def rank(group: list[Trial]) -> float:
        values = score(group, metrics[0])
        return -statistics.fmean(values) if values else math.inf

    lines = [f"| experiment | settings | seeds | {' | '.join(metrics)} |", f"|{'---|' * (3 + len(metrics))}"]
    for (experiment, settings), group in sorted(groups.items(), key=lambda item: rank(item[1])):
        own = ", ".join(f"`{item}`" for item in settings if item not in shared)
        cells = [
            summary(values, 100 if metric in PERCENT else 1) if (values := score(group, metric)) else ""
            for metric in metrics
        ]
        lines.append(f"| {experiment} | {own} | {len(group)} | {' | '.join(cells)} |")
    return lines


def commands(trials: Sequence[Trial]) -> list[str]:
    """One sweep for each experiment whose trials are all combinations of their values, else a command a trial."""
    lines: list[str] = []
    for experiment in dict.fromkeys(trial.experiment for trial in trials):
        own = [trial.given for trial in trials if trial.experiment == experiment]
        values: dict[str, dict[str, None]] = {}  # of each key, in the order given
        for given in own:
            for item in given:
                key, _, value = item.partition("=")
                values.setdefault(key, {})[value] = None
        if len(own) > 1 and len(own) == math.prod(map(len, values.values())):
            lines.append(" ".join(["attendgen train -m", *(f"{key}={','.join(values[key])}" for key in values)]))
        else:
            lines += [" ".join(["attendgen train", *given]) for given in own]
    return lines


def document(title: str, split: str, trials: Sequence[Trial], metrics: Sequence[str]) -> str:
    """The table with the commands that it comes from."""
    lines = [
        f"# {title}",
        "",
        f"Scores of the {split} split, in percent except CIDEr; mean and standard std over seeds. Trained by",
        "",
        *(f"    {command}" for command in commands(trials)),
        "",
        f"each run scored by `attendgen evaluate RUN --split {split}`, and tabulated by `scripts/tabulate_results.py`.",
        "",
        *table(trials, metrics),
    ]
    return "\n".join(lines) + "\n"


@script
def main(arguments: list[str] | None = None) -> None:
    """Read the runs and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="SWEEP", help="sweeps, or runs")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--metrics", nargs="+", default=["cider", "bleu4", "meteor", "rouge_l"])
    parser.add_argument("--title", default="Results on Flickr8k")
    parser.add_argument("--out", type=Path, help="printed unless given")
    options = parser.parse_args(arguments)
    folders = [path.parent for folder in options.folders for path in sorted(folder.rglob("config.yaml"))]
    runs = {folder: read_trial(folder, options.split) for folder in folders if folder.name != ".hydra"}
    for folder, trial in runs.items():
        if trial is None:
            print(f"{folder}: no metrics_{options.split}.json; left out", file=sys.stderr)
    last = {(one.experiment, one.settings, one.seed): one for one in runs.values() if one is not None}
    trials = list(last.values())
    if not trials:
        raise UserError(f"{options.folders[0]}: no run with metrics_{options.split}.json; evaluate one first")
    text = document(options.title, options.split, trials, options.metrics)
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
