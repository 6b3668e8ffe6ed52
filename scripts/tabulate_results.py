"""Write a Markdown table of a sweep's scores: one row per setting, mean and standard deviation over seeds.

    attendgen train -m experiment=flickr8k_soft seed=1,2,3 model.context_gate=none,scalar
    for run in SWEEP/*/; do attendgen evaluate "$run" --split dev decoding.beam_size=5; done
    python scripts/tabulate_results.py SWEEP --split dev --out docs/results/flickr8k.md

A setting is the runs' command line without the seed; of several runs with the same setting and seed the newest counts.
Runs without scores of the split are named and left out. The document quotes the commands that repeat the runs.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attendgen.cli.script import script
from attendgen.runs.layout import CONFIG, METRICS, read_arguments
from attendgen.runs.listing import RunSummary, find_runs
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_yaml, write_text

PLACES = ("data.root=", "init_from=", "paths.data=")  # of this machine; quoted as DIR
LEFT_OUT = ("paths.", "hydra.", "hydra/")  # where runs are written and who starts them
PERCENT = ("bleu1", "bleu2", "bleu3", "bleu4", "bleu4_nobp", "meteor", "rouge_l")


class Trial(NamedTuple):
    """A scored run: its command line, with places of this machine replaced, and its scores."""

    experiment: str
    seed: int
    arguments: tuple[str, ...]
    scores: dict[str, float]

    @property
    def setting(self) -> tuple[str, ...]:
        """Return the arguments in which trials are compared: neither seed nor experiment nor places."""
        ignored = (*PLACES, "experiment=", "seed=")
        return tuple(sorted(argument for argument in self.arguments if not argument.startswith(ignored)))


def read_trial(run: RunSummary, split: str) -> Trial | None:
    """Return a run's command line and scores, or None if it has not been scored."""
    path = run.folder / METRICS.format(split=split)
    if not path.is_file():
        return None
    seed = read_yaml(run.folder / CONFIG)["seed"]
    arguments = []
    for argument in read_arguments(run.folder):
        if argument.startswith(PLACES):
            arguments.append(f"{argument.partition('=')[0]}=DIR")
        elif not argument.startswith(LEFT_OUT):
            arguments.append(argument)
    return Trial(run.experiment, seed, tuple(arguments), read_json(path))


def format_scores(values: Sequence[float], factor: float) -> str:
    """Format a mean, and the standard deviation of the sample if there is more than one value."""
    digits = 1 if factor == 100 else 3
    mean = f"{factor * statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {factor * statistics.stdev(values):.{digits}f}"


def make_table(trials: Sequence[Trial], metrics: Sequence[str]) -> list[str]:
    """Return the lines of a table with one row per experiment and setting, sorted by the first metric, best first."""
    groups: dict[tuple[str, tuple[str, ...]], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.experiment, trial.setting), []).append(trial)
    common = set.intersection(*(set(trial.setting) for trial in trials)) if len(groups) > 1 else set()

    def collect(group: list[Trial], metric: str) -> list[float]:
        return [trial.scores[metric] for trial in group if metric in trial.scores]

    def rank(group: list[Trial]) -> float:
        values = collect(group, metrics[0])
        return -statistics.fmean(values) if values else math.inf

    lines = [f"| experiment | settings | seeds | {' | '.join(metrics)} |", f"|{'---|' * (3 + len(metrics))}"]
    for (experiment, setting), group in sorted(groups.items(), key=lambda item: rank(item[1])):
        differing = ", ".join(f"`{argument}`" for argument in setting if argument not in common)
        cells = [
            format_scores(values, 100 if metric in PERCENT else 1) if (values := collect(group, metric)) else ""
            for metric in metrics
        ]
        lines.append(f"| {experiment} | {differing} | {len(group)} | {' | '.join(cells)} |")
    return lines


def make_commands(trials: Sequence[Trial]) -> list[str]:
    """Return one sweep per experiment whose trials are all combinations of their values, else one command per trial."""
    lines: list[str] = []
    for experiment in dict.fromkeys(trial.experiment for trial in trials):
        own = [trial.arguments for trial in trials if trial.experiment == experiment]
        values: dict[str, dict[str, None]] = {}  # of each key, in the order given
        for arguments in own:
            for argument in arguments:
                key, _, value = argument.partition("=")
                values.setdefault(key, {})[value] = None
        if len(own) > 1 and len(own) == math.prod(map(len, values.values())):
            lines.append(" ".join(["attendgen train -m", *(f"{key}={','.join(values[key])}" for key in values)]))
        else:
            lines += [" ".join(["attendgen train", *arguments]) for arguments in own]
    return lines


def make_document(title: str, split: str, trials: Sequence[Trial], metrics: Sequence[str]) -> str:
    """Return the table with the commands that repeat it."""
    lines = [
        f"# {title}",
        "",
        f"Scores of the {split} split, in percent except CIDEr; mean and standard deviation over seeds. Trained by",
        "",
        *(f"    {command}" for command in make_commands(trials)),
        "",
        f"each run scored by `attendgen evaluate RUN --split {split}`, and tabulated by `scripts/tabulate_results.py`.",
        "",
        *make_table(trials, metrics),
    ]
    return "\n".join(lines) + "\n"


@script
def main(arguments: list[str] | None = None) -> None:
    """Read the runs, and write or print the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="SWEEP", help="folders of sweeps or runs")
    parser.add_argument("--split", default="dev", help="the split whose scores are read (default dev)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=["cider", "bleu4", "meteor", "rouge_l"],
        help="columns; the first one sorts the rows (default cider bleu4 meteor rouge_l)",
    )
    parser.add_argument("--title", default="Results on Flickr8k", help="heading (default 'Results on Flickr8k')")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: print)")
    options = parser.parse_args(arguments)
    runs = [run for folder in options.folders for run in find_runs(folder)]
    newest: dict[tuple[str, tuple[str, ...], int], Trial] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.folder)):
        trial = read_trial(run, options.split)
        if trial is None:
            print(f"{run.folder}: no {METRICS.format(split=options.split)}; left out", file=sys.stderr)
        else:
            newest[trial.experiment, trial.setting, trial.seed] = trial
    if not newest:
        missing = METRICS.format(split=options.split)
        raise UserError(f"{options.folders[0]}: no run with {missing}; evaluate one first")
    document = make_document(options.title, options.split, list(newest.values()), options.metrics)
    if options.out:
        write_text(options.out, document)
    else:
        print(document, end="")


if __name__ == "__main__":
    main()
