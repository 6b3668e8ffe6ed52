"""Sentences of reports about games, with marks in place of the names of players and teams, and numbers as digits."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from attendgen.layers.tables import Row, Table

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {word: number for number, word in enumerate(UNITS.split())}
NUMBERS |= {word: 10 * number for number, word in enumerate(TENS.split(), 2)}

NICKNAMES = {
    "76ers": ("Sixers",),
    "Cavaliers": ("Cavs",),
    "Grizzlies": ("Grizz",),
    "Mavericks": ("Mavs",),
    "Timberwolves": ("Wolves", "T-Wolves"),
    "Trail Blazers": ("Blazers",),
}
CITIES = {"Los Angeles": ("LA",), "LA": ("Los Angeles",), "Oklahoma City": ("OKC",)}
SUFFIXES = ("Jr.", "Sr.", "II", "III")

END = re.compile(r"(?<= [.!?]) (?=[A-Z0-9\"“'])")
POSSESSIVE = re.compile(r"['’]s?$")
MARK = re.compile(r"@([PT])(\d+)")


class Mention(NamedTuple):
    """A name in a marked sentence: where it begins, whether it is a team's, and the number of its row."""

    start: int
    is_team: bool
    row: int


class Sentence(NamedTuple):
    """A sentence with @P3 for the player and @T1 for the team of that row of the table."""

    text: str
    mentions: tuple[Mention, ...]


def is_team(row: Row) -> bool:
    """Return whether a row of a game's table is a team's."""
    return any(cell.kind == "TEAM-NAME" for cell in row.cells)


def split_sentences(text: str, table: Table) -> Iterator[Sentence]:
    """Yield the sentences of a tokenized report, marked."""
    names = find_names(table)
    longest = max((len(name.split()) for name in names), default=1)
    for sentence in END.split(text):
        marked = " ".join(_mark_tokens(sentence.split(), names, longest))
        mentions = (Mention(found.start(), found[1] == "T", int(found[2])) for found in MARK.finditer(marked))
        yield Sentence(marked, tuple(mentions))


def find_names(table: Table) -> dict[str, str]:
    """Return the mark of each name that only one row has: full names first, then last names, then first ones."""
    names: dict[str, str] = {}
    for level in range(3):
        found: dict[str, set[str]] = {}
        for number, row in enumerate(table):
            mark = f"@{'T' if is_team(row) else 'P'}{number}"
            for name in (_name_team(row) if is_team(row) else _name_player(row.name))[level]:
                found.setdefault(name, set()).add(mark)
        for name, marks in found.items():
            if len(marks) == 1 and name and name not in names:
                names[name] = marks.pop()
    return names


def _name_team(row: Row) -> tuple[set[str], set[str], set[str]]:
    values = {cell.kind: cell.value for cell in row.cells}
    city, name = values.get("TEAM-CITY", ""), values["TEAM-NAME"]
    cities, short = {city, *CITIES.get(city, ())}, {name, *NICKNAMES.get(name, ())}
    return {f"{place} {each}" for place in cities for each in short}, short, cities


def _name_player(name: str) -> tuple[set[str], set[str], set[str]]:
    words = name.split()
    full = {name}
    if len(words) > 2 and words[-1] in SUFFIXES:
        full.add(" ".join(words[:-1]))
    return full, {" ".join(each.split()[1:]) for each in full}, set(words[:1])


def _mark_tokens(tokens: list[str], names: Mapping[str, str], longest: int) -> Iterator[str]:
    position = 0
    while position < len(tokens):
        for length in range(min(longest, len(tokens) - position), 0, -1):
            name = " ".join(tokens[position : position + length])
            mark = names.get(name) or names.get(POSSESSIVE.sub("", name))
            if mark is not None:
                yield mark if name in names else f"{mark} 's"
                position += length
                break
        else:
            number, length = _read_number(tokens[position : position + 3])
            yield tokens[position] if number is None else str(number)
            position += length


def _read_number(tokens: list[str]) -> tuple[int | None, int]:
    """Return the number that tokens begin with in words, such as "twenty - two", and how many tokens it takes."""
    words = [token.lower() for token in tokens]
    first, _, second = words[0].partition("-")
    if second and first in NUMBERS and second in NUMBERS:
        return NUMBERS[first] + NUMBERS[second], 1
    number = NUMBERS.get(words[0])
    if number is not None and number >= 20 and words[1:2] == ["-"] and NUMBERS.get(words[-1], 10) < 10:
        return number + NUMBERS[words[-1]], 3
    return number, 1
