"""Tables of scores for a paper, as Markdown, LaTeX, CSV or text: a row per setting or run, the best marked."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attendgen.runs.grouping import find_differing, format_settings, group_runs
from attendgen.runs.listing import RunSummary
from attendgen.utils.errors import UserError, format_some

ALIASES = {"dev": "val", "val": "dev"}  # names of one split
LOWER_IS_BETTER = frozenset(
    (
        *("cross_entropy", "perplexity", "bits_per_character", "loss", "ter"),
        *("ser", "ser_added", "ser_missing", "ser_wrong"),
        *("dynamic_bits_per_character", "dynamic_perplexity"),
    )
)
BLEU = [f"bleu{order}{kind}" for order in range(1, 5) for kind in ("", "_nobp")]  # of captions
FRACTIONS = frozenset([*BLEU, "meteor", "rouge_l", "seen_in_training"])  # printed in percent
HUNDREDTHS = frozenset(("bleu", "bleu_lower", "chrf", "ter"))  # from 0 to 100 already

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


@dataclass(frozen=True)
class Row:
    """The scores of a run, or of the runs of a setting.

    Attributes:
        labels: the first cells.
        settings: `key=value` of what differs between rows.
        values: the scores of all seeds by metric; empty where a score is missing.
    """

    labels: dict[str, str]
    settings: list[str]
    values: dict[str, list[float]]

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds."""
        return statistics.fmean(self.values[metric]) if self.values[metric] else None

    def std(self, metric: str) -> float | None:
        """Return the standard deviation of the sample."""
        return statistics.stdev(self.values[metric]) if len(self.values[metric]) > 1 else None


@dataclass(frozen=True)
class ScoreTable:
    """Rows with their scores, sorted by the first metric, best first.

    Attributes:
        lower: the metrics of which less is better.
    """

    rows: list[Row]
    metrics: tuple[str, ...]
    lower: frozenset[str]

    def is_best(self, row: Row, metric: str) -> bool:
        """Return whether no row has a better mean."""
        means = [mean for each in self.rows if (mean := each.mean(metric)) is not None]
        best = min if metric in self.lower else max
        return len(self.rows) > 1 and bool(means) and row.mean(metric) == best(means)

    def render(self, style: str) -> str:
        """Return the table as "table", "csv", "md" or "latex".

        Raises:
            UserError: there is no such style.
        """
        if style not in STYLES:
            raise UserError(f"--format {style}: unknown; choose one of {', '.join(STYLES)}")
        return STYLES[style](self)

    def header(self) -> list[str]:
        """Return the names of the columns; scores that are printed in percent say so."""
        return [*self.rows[0].labels, *(f"{m} (%)" if m in FRACTIONS else m for m in self.metrics)]

    def cells(self, row: Row, metric: str) -> tuple[str, str]:
        """Return a mean and a standard deviation as text; empty where there is none."""
        factor = 100 if metric in FRACTIONS else 1
        digits = 1 if metric in FRACTIONS | HUNDREDTHS else 3
        mean, std = row.mean(metric), row.std(metric)
        first = "" if mean is None else f"{factor * mean:.{digits}f}"
        return first, "" if std is None else f"{factor * std:.{digits}f}"


def make_score_table(runs: Sequence[RunSummary], metrics: Sequence[str], split: str, by: str = "run") -> ScoreTable:
    """Return a table of the scores of runs, which all have an evaluation of the split.

    Args:
        runs: newest first; of runs with the same setting and seed the first counts in a table by setting.
        split: with the tag, if there is one.
        by: "run" or "setting", which has the mean and the standard deviation over seeds.

    Raises:
        UserError: `by` is unknown, or no run has one of the scores.
    """
    names = list(dict.fromkeys(name for run in runs for name in find_scores(run, split) or {}))
    for metric in metrics:
        if metric not in names:
            raise UserError(f"--metrics {metric}: no run has this score of {split}; there are {format_some(names)}")
    if by not in ("run", "setting"):
        raise UserError(f"--by {by}: unknown; choose run or setting")
    lower = frozenset(metric for metric in metrics if _is_lower_better(metric, runs))
    keys = find_differing([run.setting for run in runs])
    groups = group_runs(runs) if by == "setting" else [[run] for run in runs]
    rows = [_make_row(group, metrics, split, by, keys) for group in groups]

    def rank(row: Row) -> tuple[bool, float]:
        mean = row.mean(metrics[0])
        return mean is None, (1 if metrics[0] in lower else -1) * (mean or 0.0)

    return ScoreTable(sorted(rows, key=rank), tuple(metrics), lower)


def find_scores(run: RunSummary, split: str) -> dict[str, float] | None:
    """Return a run's scores of a split, or None if it has not been evaluated; "dev" and "val" are the same split."""
    name, point, tag = split.partition(".")
    found = run.evaluations.get(split)
    return found or run.evaluations.get(f"{ALIASES.get(name, name)}{point}{tag}")


def _is_lower_better(metric: str, runs: Sequence[RunSummary]) -> bool:
    modes = {run.mode for run in runs if run.metric.partition("/")[2] == metric}
    return modes == {"min"} if modes else metric in LOWER_IS_BETTER


def _make_row(group: Sequence[RunSummary], metrics: Sequence[str], split: str, by: str, keys: Sequence[str]) -> Row:
    first = group[0]
    settings = format_settings(first.setting, keys)
    own = {"run": str(first.folder)} if by == "run" else {}
    counts = {"seed": first.seed or ""} if by == "run" else {"seeds": str(len(group))}
    labels = {**own, "experiment": first.experiment, "settings": " ".join(settings), **counts}
    scores = [find_scores(run, split) or {} for run in group]
    return Row(labels, settings, {m: [each[m] for each in scores if m in each] for m in metrics})


def _render_plain(table: ScoreTable) -> str:
    def join(row: Row, metric: str) -> str:
        mean, std = table.cells(row, metric)
        return mean + (f" ± {std}" if std else "") + (" *" if table.is_best(row, metric) else "")

    rows = [[*row.labels.values(), *(join(row, metric) for metric in table.metrics)] for row in table.rows]
    lines = [table.header(), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{line.rstrip()}\n" for line in padded)


def _render_csv(table: ScoreTable) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    seeds = "seeds" in table.rows[0].labels
    names = [name for m in table.metrics for name in ((f"{m}_mean", f"{m}_std") if seeds else (m,))]
    writer.writerow([*table.rows[0].labels, *names])
    for row in table.rows:
        values = [v for m in table.metrics for v in ((row.mean(m), row.std(m)) if seeds else (row.mean(m),))]
        writer.writerow([*row.labels.values(), *values])
    return text.getvalue()


def _render_markdown(table: ScoreTable) -> str:
    def join(row: Row, metric: str) -> str:
        mean, std = table.cells(row, metric)
        return (f"**{mean}**" if table.is_best(row, metric) else mean) + (f" ± {std}" if std else "")

    def label(row: Row) -> list[str]:
        quoted = {**row.labels, "settings": ", ".join(f"`{setting}`" for setting in row.settings)}
        return [text.replace("|", "\\|") for text in quoted.values()]

    rows = [[*label(row), *(join(row, metric) for metric in table.metrics)] for row in table.rows]
    header = table.header()
    lines = [f"| {' | '.join(line)} |" for line in (header, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]]) + "\n"


def _render_latex(table: ScoreTable) -> str:
    def join(row: Row, metric: str) -> str:
        mean, std = table.cells(row, metric)
        best = rf"\mathbf{{{mean}}}" if table.is_best(row, metric) else mean
        deviation = rf" \pm {std}" if std else ""
        return f"${best}{deviation}$" if mean else ""

    rows = [
        [*map(escape_latex, row.labels.values()), *(join(row, metric) for metric in table.metrics)]
        for row in table.rows
    ]
    columns = "l" * (len(table.rows[0].labels) - 1) + "r" * (1 + len(table.metrics))
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escape_latex, table.header())) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            "\\end{tabular}\n",
        ]
    )


def escape_latex(text: str) -> str:
    """Return a text in which the signs that LaTeX reserves stand for themselves."""
    return "".join(LATEX.get(sign, sign) for sign in text)


STYLES: dict[str, Callable[[ScoreTable], str]] = {
    "table": _render_plain,
    "csv": _render_csv,
    "md": _render_markdown,
    "latex": _render_latex,
}
