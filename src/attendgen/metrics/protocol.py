"""The interface of metrics that compare generated texts with references."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from attendgen.layers.tables import Table
from attendgen.utils.errors import UserError


@runtime_checkable
class Metric(Protocol):
    """Scores by name of all outputs of a split: a function, or an object with settings.

    A metric may have `packages`: modules that it needs, with the extra of AttendGen that installs each.
    """

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return scores by name.

        Args:
            references: texts that each output is compared with; outputs may have different numbers of them.
        """


@runtime_checkable
class SignedMetric(Metric, Protocol):
    """A metric whose scores have signatures, which say how they were computed."""

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the signature of each score by its name."""


@runtime_checkable
class SlowMetric(Metric, Protocol):
    """A metric with scores by programs that may fail, which only `attendgen evaluate` computes."""

    def score_slowly(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return these scores by name; none if their program is missing."""


@runtime_checkable
class TableMetric(Protocol):
    """A metric that compares texts with the tables that they are about; it is not called as a `Metric` is."""

    def score_tables(
        self, outputs: Sequence[str], references: Sequence[Sequence[str]], tables: Sequence[Table]
    ) -> dict[str, float]:
        """Return scores by name.

        Args:
            references: texts by others about the table of each output.
        """


@runtime_checkable
class FactMetric(TableMetric, Protocol):
    """A metric of facts, by which `decoding.facts=true` ranks the outputs for a table."""

    def count_mistakes(self, output: str, table: Table) -> int:
        """Return how many facts of the table a text lacks, and how many it adds."""


AnyMetric = Metric | TableMetric


def require_metrics(metrics: Sequence[Any]) -> list[AnyMetric]:
    """Return metrics that can be called, or that compare texts with tables.

    Raises:
        UserError: one does neither.
    """
    for number, metric in enumerate(metrics):
        if not callable(metric) and not isinstance(metric, TableMetric):
            raise UserError(
                f"task.metrics[{number}]: {type(metric).__name__} cannot be called; give a class, or a "
                "function with `_partial_: true`"
            )
    return list(metrics)


def find_fact_metric(metrics: Sequence[Any]) -> FactMetric:
    """Return the first metric of facts.

    Raises:
        UserError: there is none.
    """
    for metric in metrics:
        if isinstance(metric, FactMetric):
            return metric
    raise UserError(
        "decoding.facts=true: no metric of task.metrics counts facts; add one, such as "
        "{_target_: attendgen.metrics.SlotErrors}"
    )


def score_texts(
    metrics: Sequence[AnyMetric],
    outputs: Sequence[str],
    references: Sequence[Sequence[str]],
    tables: Sequence[Table] | None = None,
) -> dict[str, float]:
    """Return the scores of all metrics.

    Args:
        tables: what the outputs are about, if they are about tables.

    Raises:
        UserError: a metric does not return numbers by name, two of them use the same name, or one needs tables.
    """
    scores: dict[str, float] = {}
    for number, metric in enumerate(metrics):
        function = getattr(metric, "func", metric)  # of a partial one
        field = f"task.metrics[{number}]: {getattr(function, '__name__', type(function).__name__)}"
        if not isinstance(metric, TableMetric):
            found = metric(outputs, references)
        elif tables is None:
            raise UserError(f"{field} compares texts with tables, which these data have not; leave it out")
        else:
            found = metric.score_tables(outputs, references, tables)
        try:
            own = {str(name): float(value) for name, value in dict(found).items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"{field} returned {type(found).__name__}; expected numbers by name, as a dict") from error
        if twice := sorted(scores.keys() & own):
            raise UserError(f"{field}: another metric has the score {twice[0]}, too; leave one out or rename its score")
        scores |= own
    return scores


def score_texts_slowly(
    metrics: Sequence[AnyMetric], outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return the scores of all metrics that only an evaluation computes."""
    scores: dict[str, float] = {}
    for metric in metrics:
        if isinstance(metric, SlowMetric):
            scores |= metric.score_slowly(outputs, references)
    return scores
