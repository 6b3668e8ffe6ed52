"""RG, CS and CO of reports about games, by rules (Wiseman et al. 2017, section 4.2)."""

from collections.abc import Sequence
from functools import lru_cache

from attendgen.layers.tables import Table
from attendgen.metrics.counted import CountedMetric, Share
from attendgen.metrics.game_facts import Fact, find_facts


class BoxScoreFacts(CountedMetric):
    """Compares the facts that rules find in reports with the box scores, and with those of human reports.

    - `rg_precision_by_rules`: relation generation, the share of the facts that the box score confirms, in percent;
      `rg_number_by_rules`: facts per report, confirmed or not.
    - `cs_precision_by_rules`, `cs_recall_by_rules`: content selection, the share of the facts that the human report
      states, too, and the share of its facts that are stated.
    - `co_by_rules`: content ordering, 100 minus the normalized Damerau-Levenshtein distance of the two lists of facts.

    Others find facts by a trained classifier, so their numbers are not the same; see the figures in
    docs/guide/evaluation.md. Only the first reference of a report is compared.
    """

    def count(self, output: str, references: Sequence[str], table: Table) -> dict[str, Share]:
        """Return the counts of facts for each score."""
        found = find_facts(output, table)
        wanted = _find_human_facts(references[0], table) if references else ()
        shared = len(set(found) & set(wanted))
        return {
            "rg_precision_by_rules": Share(len(found) - self._count_wrong(found, table), len(found)),
            "rg_number_by_rules": Share(len(found) / self.unit, 1),
            "cs_precision_by_rules": Share(shared, len(found)),
            "cs_recall_by_rules": Share(shared, len(wanted)),
            "co_by_rules": Share(1 - normalized_distance(found, wanted), 1),
        }

    def count_mistakes(self, output: str, table: Table) -> int:
        """Return the number of facts that the box score does not confirm; a report need not state all of it."""
        return self._count_wrong(find_facts(output, table), table)

    def _count_wrong(self, facts: Sequence[Fact], table: Table) -> int:
        values = {Fact(number, cell.kind, cell.value) for number, row in enumerate(table) for cell in row.cells}
        return sum(fact not in values for fact in facts)


@lru_cache(maxsize=4096)  # the validations of a training compare with the same reports
def _find_human_facts(text: str, table: Table) -> tuple[Fact, ...]:
    return tuple(find_facts(text, table))


def normalized_distance(first: Sequence[Fact], second: Sequence[Fact]) -> float:
    """Return the Damerau-Levenshtein distance divided by the greater length, from 0 to 1.

    Neighbors may be swapped, and a part is edited at most once (optimal string alignment).
    """
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            distance = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one != other))
            if i > 1 and j > 1 and one == second[j - 2] and first[i - 2] == other:
                distance = min(distance, earlier[j - 2] + 1)
            row.append(distance)
    return row[-1] / max(len(first), len(second), 1)
