"""The facts that a report about a basketball game states, found by rules.

A fact is found in one sentence that names its player or team; pronouns are not resolved. The rules were written for
AttendGen from the reports of RotoWire.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from attendgen.layers.tables import Table
from attendgen.metrics.game_names import Mention, Sentence, split_sentences


class Fact(NamedTuple):
    """A value of a kind of record that a text states of the player or team of a row."""

    row: int
    kind: str
    value: str


class Found(NamedTuple):
    """A fact and where it is in a sentence."""

    start: int
    fact: Fact


NOUNS = {
    "PTS": "points?",
    "REB": "rebounds?|boards?",
    "AST": "assists?|dimes?",
    "STL": "steals?",
    "BLK": "blocks?|swats?|rejections?|blocked shots?",
    "MIN": "minutes?",
    "TO": "turnovers?",
}
KINDS_OF_TEAMS = {"PTS": "TEAM-PTS", "REB": "TEAM-REB", "AST": "TEAM-AST", "TO": "TEAM-TOV"}
ADJECTIVES = (
    "(?:(?:total|team|more|big|quick|solid|impressive|efficient|defensive|offensive|productive|hard|easy|strong) )?"
)
COUNT = re.compile(
    rf"(?<!- )\b(\d+) (?:- )?({ADJECTIVES})(?:{'|'.join(f'(?P<{kind}>{noun})' for kind, noun in NOUNS.items())})\b"
)
# a number of points that is not a player's or a team's total
PART = re.compile(
    r" (?:- )?(?:lead|victory|win|deficit|advantage|loss|run|cushion|comeback|margin|halftime|swing|in the paint|"
    r"off turnovers|off the bench combined|in the (?:\d\w* |first |second |third |fourth |final |opening )"
    r"(?:quarter|half|period|frame|stanza)|per (?:game|contest|night)|a (?:game|night|contest)|straight|"
    r"or (?:more|less)|mark|of the game|left|remaining|in a row|to go|later|restriction|limit|under|combined|"
    r"over (?:his|the|their))\b"
)
BARE_POINTS = re.compile(
    r"\b(?:scor(?:ed|ing)|pour(?:ed|ing) in|dropp(?:ed|ing)) (?:a (?:game|team|season|career) - high )?(\d+)"
    r"(?= (?:on|each|apiece|a piece|,|\.|off|with)(?: |$))"
)
THREES = re.compile(
    r"\b(\d+) (?:3 - pointers|3 - point (?:shots|field goals|baskets|makes)|3-pointers|3s|threes|treys)"
)
BLOCKED = re.compile(r"\bblocked (\d+) shots\b")
RESPECTIVELY = re.compile(r"\b(\d+) and (\d+) (points|rebounds|assists|minutes)[^.]* respectively")
SHOTS = re.compile(r"(?<![-\d] )\b(\d+) - (?:(?:of|for) - )?(\d+) (FG|3PT|3Pt|FT)\b")
OUT_OF = re.compile(r"\b(\d+) (- )?(?:of|for) (?:- )?(?:his |its |their |the )?(\d+)\b")
PERCENT = re.compile(r"\b(\d+) (?:percent|%)")
RECORD = re.compile(r"@T(\d+) (?:' )?(?:'s )?\( (\d+) - (\d+)\b(?! (?:FG|3P|FT))")
SCORE = re.compile(r"(?<!\( )(?<!- )\b(\d{2,3}) - (\d{2,3})\b(?! (?:FG|3P|FT|lead|deficit|advantage|run)| - )")
QUARTER = re.compile(r"(?:in|during) (?:the|a) (first|opening|second|third|fourth|final) (?:quarter|period|frame)")
QUARTERS = {"first": 1, "opening": 1, "second": 2, "third": 3, "fourth": 4, "final": 4}
LOST = re.compile(r"\b(?:lost|fell|falling|fallen|loss|lose|defeated by|succumbed|dropped|beaten)\b")
AVERAGE = re.compile(r"averag|per game")
SHOOTING = re.compile(
    r"shoot|field|floor|shot|attempt|range|arc|line|deep|downtown|stripe|distance|three|throws|long|\b3\b"
)
FREE_THROWS = re.compile(r"free|stripe|foul|charity|(?<!3 - point )\bline")
FROM_FAR = re.compile(r"\b3\b|3-point|three|deep|downtown|arc|long|distance|range|treys")
NEXT_SHOTS = re.compile(r" \d+ - (?:of|for)|,|;| and \d| while | to ")
NEXT_SHARE = re.compile(r"\d+ (?:percent|%)|,|;| while | compared")
NEW_SUBJECT = re.compile(r"(?:[,;]|\b(?:but|while|as|where|when|although|with)) (?:the )?$")
EACH = re.compile(r"\b(?:each|apiece|a piece|all|both)\b")
JOINED = re.compile(r"@P\d+ (?:\([^)]*\) )?(?:, )?(?:and )?")
BY_WHOM = re.compile(r" [^,.@]{0,25}(?:from|by) @P(\d+)")
MOST_OF_A_QUARTER = 70  # points: more are the whole game's


def find_facts(text: str, table: Table) -> list[Fact]:
    """Return the facts of a report in their order, each once."""
    facts: list[Fact] = []
    for sentence in split_sentences(text, table):
        if sentence.mentions:
            facts += [found.fact for found in sorted(_find(sentence), key=lambda each: each.start)]
    return list(dict.fromkeys(facts))


def _find(sentence: Sentence) -> list[Found]:
    average = AVERAGE.search(sentence.text)
    end = average.start() if average else len(sentence.text)
    found = [*_find_records(sentence), *_find_scores(sentence)]
    counted = [*_find_shots(sentence), *_find_shares(sentence), *_find_counts(sentence), *_find_more(sentence)]
    # what follows "averaging" is of other games
    return found + [each for each in counted if each.start < end]


def _find_records(sentence: Sentence) -> Iterator[Found]:
    for match in RECORD.finditer(sentence.text):
        for group, kind in ((2, "TEAM-WINS"), (3, "TEAM-LOSSES")):
            yield Found(match.start(group), Fact(int(match[1]), kind, match[group]))


def _find_scores(sentence: Sentence) -> Iterator[Found]:
    """Yield the points of both teams in the game or in a quarter; who wins has more."""
    teams = list(dict.fromkeys(mention.row for mention in sentence.mentions if mention.is_team))[:2]
    for match in SCORE.finditer(sentence.text):
        low, high = sorted((int(match[1]), int(match[2])))
        quarter = QUARTER.search(sentence.text, match.end(), match.end() + 40)
        if low == high or (low < MOST_OF_A_QUARTER and quarter is None):
            continue
        kind = "TEAM-PTS" if quarter is None else f"TEAM-PTS_QTR{QUARTERS[quarter[1]]}"
        points = [low, high] if quarter is None and LOST.search(_get_first_claim(sentence, teams)) else [high, low]
        for order, (row, number) in enumerate(zip(teams, points, strict=False)):
            yield Found(match.start() + order, Fact(row, kind, str(number)))


def _get_first_claim(sentence: Sentence, teams: list[int]) -> str:
    """Return the text between the first mentions of the teams."""
    starts = [next(mention.start for mention in sentence.mentions if mention.row == row) for row in teams]
    return sentence.text[starts[0] : starts[1]] if len(starts) > 1 else sentence.text


def _find_shots(sentence: Sentence) -> Iterator[Found]:
    """Yield made and attempted shots: 8 - 11 FG, 8 - of - 11 from the field."""
    text = sentence.text
    taken: set[int] = set()
    for match in SHOTS.finditer(text):
        taken.add(match.start())
        shot = match[3] if match[3] in ("FG", "FT") else "FG3"
        yield from _make_shots(sentence, match.start(), shot, match[1], match[2])
    for match in OUT_OF.finditer(text):
        where = NEXT_SHOTS.split(text[match.end() :])[0][:60]
        if match.start() not in taken and (match[2] or SHOOTING.search(where)):
            yield from _make_shots(sentence, match.start(), _name_shot(where), match[1], match[3])


def _make_shots(sentence: Sentence, start: int, shot: str, made: str, attempted: str) -> Iterator[Found]:
    player = _find_player(sentence, start)
    if player is not None:
        yield Found(start, Fact(player.row, f"PLAYER-{shot}M", made))
        yield Found(start, Fact(player.row, f"PLAYER-{shot}A", attempted))


def _name_shot(where: str) -> str:
    """Return the kind of the shots that are taken from somewhere."""
    if FREE_THROWS.search(where):
        return "FT"
    return "FG3" if FROM_FAR.search(where) else "FG"


def _find_shares(sentence: Sentence) -> Iterator[Found]:
    """Yield the percentages of teams' shots that were made."""
    for match in PERCENT.finditer(sentence.text):
        last = _find_last(sentence, match.start())
        if last is not None and last.is_team:
            where = NEXT_SHARE.split(sentence.text[match.end() :])[0][:60]
            yield Found(match.start(), Fact(last.row, f"TEAM-{_name_shot(where)}_PCT", match[1]))


def _find_counts(sentence: Sentence) -> Iterator[Found]:
    """Yield numbers with their nouns: 24 points, an 11 - rebound game, five offensive boards."""
    lists = RESPECTIVELY.search(sentence.text)
    for match in COUNT.finditer(sentence.text):
        kind = str(match.lastgroup)
        if PART.match(sentence.text, match.end()) or (lists and match.start() == lists.start(2)):
            continue
        if kind == "PTS" and match[1] == "3" and "- point" in match[0]:
            continue  # a 3 - point shot
        if kind == "REB":
            kind = {"offensive": "OREB", "defensive": "DREB"}.get(match[2].strip(), kind)
        yield from _assign(sentence, match, kind)


def _assign(sentence: Sentence, match: re.Match[str], kind: str) -> Iterator[Found]:
    """Yield a counted number as a fact of the players or the team that it is said of."""
    player = _find_player(sentence, match.start())
    last = _find_last(sentence, match.start())
    if player is not None:
        if "combin" not in sentence.text[player.start : match.end() + 12]:
            for row in _find_joined(sentence, player):
                yield Found(match.start(), Fact(row, f"PLAYER-{kind}", match[1]))
    elif last is None:
        if whose := BY_WHOM.match(sentence.text, match.end()):
            yield Found(match.start(), Fact(int(whose[1]), f"PLAYER-{kind}", match[1]))
    elif kind in KINDS_OF_TEAMS and (kind != "PTS" or int(match[1]) >= MOST_OF_A_QUARTER):
        yield Found(match.start(), Fact(last.row, KINDS_OF_TEAMS[kind], match[1]))


def _find_more(sentence: Sentence) -> Iterator[Found]:
    """Yield what is counted in other words: two three - pointers, blocked five shots, scored 14 each."""
    for pattern, kind in ((THREES, "FG3M"), (BLOCKED, "BLK"), (BARE_POINTS, "PTS")):
        for match in pattern.finditer(sentence.text):
            player = _find_player(sentence, match.start())
            if player is not None:
                for row in _find_joined(sentence, player):
                    yield Found(match.start(), Fact(row, f"PLAYER-{kind}", match[1]))
    if lists := RESPECTIVELY.search(sentence.text):
        kind = next(kind for kind, noun in NOUNS.items() if re.fullmatch(noun, lists[3]))
        players = [each for each in sentence.mentions if not each.is_team and each.start < lists.start()][-2:]
        for group, each in enumerate(players, 1):
            yield Found(lists.start(group), Fact(each.row, f"PLAYER-{kind}", lists[group]))


def _find_last(sentence: Sentence, end: int) -> Mention | None:
    return next((mention for mention in reversed(sentence.mentions) if mention.start < end), None)


def _find_player(sentence: Sentence, end: int) -> Mention | None:
    """Return the last player before a place, rather one without a possessive; None if a team is the subject there."""
    players = [each for each in sentence.mentions if not each.is_team and each.start < end]
    subjects = [each for each in players if not re.match(r"@P\d+ '", sentence.text[each.start :])]
    if not players:
        return None
    player = (subjects or players)[-1]
    last = _find_last(sentence, end)
    is_subject = last is not None and last.is_team and NEW_SUBJECT.search(sentence.text, 0, last.start)
    return None if last is not None and last.start > player.start and is_subject else player


def _find_joined(sentence: Sentence, player: Mention) -> list[int]:
    """Return the row of a player, after those of the players joined to him if something is said of each."""
    rows = [player.row]
    if not EACH.search(sentence.text):
        return rows
    names = list(sentence.mentions)
    for before, after in zip(names[names.index(player) - 1 :: -1], names[names.index(player) :: -1], strict=False):
        if before.start >= after.start or not JOINED.fullmatch(sentence.text[before.start : after.start]):
            break
        rows.insert(0, before.row)
    return rows
