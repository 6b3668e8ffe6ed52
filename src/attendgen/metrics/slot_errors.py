"""Slot errors of texts about restaurants: what they add, leave out or say wrongly (Dusek et al. 2019, section 3)."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from attendgen.layers.tables import Table
from attendgen.metrics.counted import CountedMetric, Share
from attendgen.metrics.slot_patterns import CLASSES, PATTERNS, PLACES, simplify

NAMED = ("name", "near")  # slots whose values are names of places
NOTHING = re.compile(r"(?!)")  # matches nowhere
COMPILED = {
    slot: {value: re.compile(pattern) for value, pattern in values.items()} for slot, values in PATTERNS.items()
}


class SlotCounts(NamedTuple):
    """The errors of a text in a slot; an added value beside a missing one is one wrong value."""

    added: int
    missing: int
    wrong: int


class SlotErrors(CountedMetric):
    """Slot error rate: added, missing and wrong values per 100 values of the tables, found by patterns.

    The patterns are AttendGen's own for the slots of E2E (`metrics/slot_patterns.py`), so rates differ a little from
    those of others. Values with the same meaning in the texts, such as "cheap" and "less than £20", count as one. A
    slot or a value that the patterns lack is looked for by its own words; one without letters and digits is not
    counted. "restaurant" is never counted as added: writers use it for any of the places.

    Args:
        by_slot: also return the rate of each slot, as `ser_food`; they sum to `ser`.
    """

    def __init__(self, by_slot: bool = False) -> None:
        self.by_slot = by_slot

    def count(self, output: str, references: Sequence[str], table: Table) -> dict[str, Share]:  # noqa: ARG002
        """Return the errors of an output and the number of values of its table, for each score."""
        errors = self.count_errors(output, table)
        values = sum(_match_words(cell.value) is not NOTHING for row in table for cell in row.cells)
        added, missing, wrong = (sum(numbers) for numbers in zip(*errors.values(), strict=True))
        found = {"ser": added + missing + wrong, "ser_added": added, "ser_missing": missing, "ser_wrong": wrong}
        if self.by_slot:
            found |= {f"ser_{slot.replace(' ', '_')}": sum(counts) for slot, counts in errors.items()}
        return {name: Share(number, values) for name, number in found.items()}

    def count_mistakes(self, output: str, table: Table) -> int:
        """Return the number of added, missing and wrong values."""
        return sum(map(sum, self.count_errors(output, table).values()))

    def count_errors(self, output: str, table: Table) -> dict[str, SlotCounts]:
        """Return the errors of an output in each slot."""
        wanted = _read_values(table)
        said = _find_values(output, wanted)
        errors = {}
        for slot in dict.fromkeys([*NAMED, *PATTERNS, *wanted]):
            if slot == "stars":
                continue
            expected, found = wanted.get(slot, frozenset()), said.get(slot, set())
            added, missing = found - expected - {"restaurant"}, expected - found
            wrong = min(len(added), len(missing))
            errors[slot] = SlotCounts(len(added) - wrong, len(missing) - wrong, wrong)
        return errors


def _read_values(table: Table) -> dict[str, frozenset[str]]:
    """Return the values of a table by slot, as classes of values that texts express alike."""
    values: dict[str, set[str]] = {}
    for cell in (cell for row in table for cell in row.cells):
        value = " ".join(cell.value.split())
        if _match_words(value) is NOTHING:
            continue
        known = CLASSES.get(cell.kind, {}).get(value)
        values.setdefault(cell.kind, set()).add(known or (value if cell.kind in NAMED else value.lower()))
    return {slot: frozenset(found) for slot, found in values.items()}


def _find_values(output: str, wanted: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """Return the values that a text says, by slot."""
    text = simplify(output)
    names = frozenset().union(*(wanted.get(slot, frozenset()) for slot in NAMED))
    said: dict[str, set[str]] = {
        slot: {value for value in wanted.get(slot, ()) if _match_words(value).search(text)} for slot in NAMED
    }
    said["near"] |= {place for place in set(PLACES) - names if _match_words(place).search(text)}
    text = _match_any(names).sub("#", text)  # "Café Rouge" is not a café
    for slot, patterns in COMPILED.items():
        said[slot] = {value for value, pattern in patterns.items() if pattern.search(text)}
    said["customer rating"] = said.pop("stars") or said["customer rating"]  # "an average rating of 1 out of 5" is low
    if "no" in said["familyFriendly"]:
        said["familyFriendly"] = {"no"}
    for slot, values in wanted.items():
        if slot not in NAMED:
            own = values - PATTERNS.get(slot, {}).keys()
            said.setdefault(slot, set()).update(value for value in own if _match_words(value).search(text))
    return said


@lru_cache(maxsize=4096)
def _match_words(value: str) -> re.Pattern[str]:
    """Return a pattern of a value in a simplified text; `NOTHING` if the value has no letter and no digit."""
    words = simplify(value).strip().removeprefix("the ").split()
    if not words:
        return NOTHING
    return re.compile(rf"(?<!\w){' ?'.join(map(re.escape, words))}s?(?!\w)")


@lru_cache(maxsize=4096)
def _match_any(names: frozenset[str]) -> re.Pattern[str]:
    """Return a pattern of names of places: these and the known ones, longer ones first."""
    return re.compile("|".join(_match_words(name).pattern for name in sorted({*names, *PLACES}, key=len, reverse=True)))
