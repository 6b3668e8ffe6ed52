"""Recall and precision of the records of sentences about games."""

import re
from collections.abc import Sequence

from attendgen.layers.tables import Table
from attendgen.metrics.counted import CountedMetric, Share

AROUND = ".,;:!?()\"'"  # punctuation that is not a part of a word
SAID = re.compile(r"\d+|\w\S*_\S*")  # a number, or a name whose words are joined: Al_Horford


class RecordScores(CountedMetric):
    """The share of a table's records that a text says, and of what it says that is in the table, in percent.

    - `record_recall`: of the records, those whose value is said.
    - `record_precision`: of the whole numbers and joined names (Al_Horford) in the text, those that are a value. Names
      of one word do not count: the table does not tell which other words are names.
    """

    def count(self, output: str, references: Sequence[str], table: Table) -> dict[str, Share]:  # noqa: ARG002
        """Return the counts of records and of what is said, for each score."""
        words, values = _split(output), _list_values(table)
        return {
            "record_recall": Share(len(values) - _count_missing(words, values), len(values)),
            "record_precision": Share(*_count_confirmed(words, values)),
        }

    def count_mistakes(self, output: str, table: Table) -> int:
        """Return the number of records that are not said, and of numbers and names that are no record."""
        words, values = _split(output), _list_values(table)
        confirmed, said = _count_confirmed(words, values)
        return _count_missing(words, values) + said - confirmed


def _split(text: str) -> list[str]:
    """Return the words of a text without the punctuation around them, which also Jr. loses."""
    return [word.strip(AROUND) or word for word in text.split()]


def _list_values(table: Table) -> list[str]:
    return [" ".join(_split(cell.value)) for row in table for cell in row.cells]


def _count_missing(words: Sequence[str], values: Sequence[str]) -> int:
    text = f" {' '.join(words)} "
    return sum(f" {value} " not in text for value in values)


def _count_confirmed(words: Sequence[str], values: Sequence[str]) -> tuple[int, int]:
    """Return how many numbers and names are values, and how many there are."""
    said = [word for word in words if SAID.fullmatch(word)]
    known = set(values)
    return sum(word in known for word in said), len(said)
