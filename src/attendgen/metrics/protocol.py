"""The interface of metrics that compare generated texts with references."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

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


def require_metrics(metrics: Sequence[Any]) -> list[Metric]:
    """Return metrics that can be called.

    Raises:
        UserError: one cannot.
    """
    for number, metric in enumerate(metrics):
        if not callable(metric):
            raise UserError(
                f"task.metrics[{number}]: {type(metric).__name__} cannot be called; give a class, or a "
                "function with `_partial_: true`"
            )
    return list(metrics)


def score_texts(
    metrics: Sequence[Metric], outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return the scores of all metrics.

    Raises:
        UserError: a metric does not return numbers by name, or two of them use the same name.
    """
    scores: dict[str, float] = {}
    for number, metric in enumerate(metrics):
        function = getattr(metric, "func", metric)  # of a partial one
        field = f"task.metrics[{number}]: {getattr(function, '__name__', type(function).__name__)}"
        found = metric(outputs, references)
        try:
            own = {str(name): float(value) for name, value in dict(found).items()}
        except (TypeError, ValueError) as error:
            raise UserError(f"{field} returned {type(found).__name__}; expected numbers by name, as a dict") from error
        if twice := sorted(scores.keys() & own):
            raise UserError(f"{field}: another metric has the score {twice[0]}, too; leave one out or rename its score")
        scores |= own
    return scores
