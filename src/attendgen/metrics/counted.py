"""Scores that are quotients of numbers summed over outputs."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from attendgen.layers.tables import Table


class Share(NamedTuple):
    """The numerator and the denominator that an output adds to a score."""

    part: float
    whole: float


class CountedMetric:
    """Compares texts with tables by counting; a score is the sum of the parts divided by the sum of the wholes.

    A subclass defines `count`.

    Attributes:
        unit: what all scores are multiplied by.
    """

    packages: ClassVar[Mapping[str, str]] = {}
    unit: ClassVar[float] = 100.0

    def count(self, output: str, references: Sequence[str], table: Table) -> dict[str, Share]:
        """Return what an output adds to each score."""
        raise NotImplementedError

    def score_tables(
        self, outputs: Sequence[str], references: Sequence[Sequence[str]], tables: Sequence[Table]
    ) -> dict[str, float]:
        """Return the scores; a score whose wholes are all 0 is 0."""
        totals: dict[str, Share] = {}
        for counted in map(self.count, outputs, references, tables):
            for name, share in counted.items():
                part, whole = totals.get(name, (0.0, 0.0))
                totals[name] = Share(part + share.part, whole + share.whole)
        return {name: divide(share, self.unit) for name, share in totals.items()}


def divide(share: Share, unit: float) -> float:
    """Return a part of a whole times a unit; 0 if the whole is 0."""
    return unit * share.part / share.whole if share.whole else 0.0
