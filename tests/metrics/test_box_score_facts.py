"""The facts that rules find in sentences about a game, and the scores by them."""

import itertools

import pytest

from attendgen.layers.tables import Cell, Row
from attendgen.metrics.box_score_facts import BoxScoreFacts, normalized_distance
from attendgen.metrics.game_facts import Fact, find_facts
from attendgen.metrics.game_names import split_sentences


def make_row(name, **values):
    return Row(name, tuple(Cell(kind.replace("__", "-"), name, value) for kind, value in values.items()))


HAWKS, CAVS, HORFORD, JAMES, JONES, HARDAWAY = range(6)
TABLE = (
    make_row("Hawks", TEAM__NAME="Hawks", TEAM__CITY="Atlanta", TEAM__PTS="103", TEAM__WINS="46"),
    make_row("Cavaliers", TEAM__NAME="Cavaliers", TEAM__CITY="Cleveland", TEAM__PTS="95", TEAM__LOSSES="7"),
    make_row("Al Horford", PLAYER_NAME="Al Horford", PLAYER__PTS="17", PLAYER__REB="9"),
    make_row("LeBron James", PLAYER_NAME="LeBron James", PLAYER__PTS="25", PLAYER__AST="8"),
    make_row("James Jones", PLAYER_NAME="James Jones", PLAYER__PTS="11"),
    make_row("Tim Hardaway Jr.", PLAYER_NAME="Tim Hardaway Jr.", PLAYER__PTS="22", PLAYER__FG3M="4"),
)
SENTENCES = {
    "The Atlanta Hawks ( 46 - 12 ) defeated the Cavs ( 20 - 7 ) , 103 - 95 , on Friday .": [
        *((HAWKS, "TEAM-WINS", "46"), (HAWKS, "TEAM-LOSSES", "12"), (CAVS, "TEAM-WINS", "20")),
        *((CAVS, "TEAM-LOSSES", "7"), (HAWKS, "TEAM-PTS", "103"), (CAVS, "TEAM-PTS", "95")),
    ],
    "Cleveland fell to Atlanta , 103 - 95 .": [(CAVS, "TEAM-PTS", "95"), (HAWKS, "TEAM-PTS", "103")],
    "The Hawks outscored Cleveland 31 - 20 in the fourth quarter .": [
        *((HAWKS, "TEAM-PTS_QTR4", "31"), (CAVS, "TEAM-PTS_QTR4", "20")),
    ],
    "Al Horford led the Hawks with 17 points ( 8 - 11 FG , 1 - 2 3Pt ) and nine rebounds .": [
        *((HORFORD, "PLAYER-PTS", "17"), (HORFORD, "PLAYER-FGM", "8"), (HORFORD, "PLAYER-FGA", "11")),
        *((HORFORD, "PLAYER-FG3M", "1"), (HORFORD, "PLAYER-FG3A", "2"), (HORFORD, "PLAYER-REB", "9")),
    ],
    "LeBron went 9 - of - 20 from the field and 5 - of - 6 from the free - throw line .": [
        *((JAMES, "PLAYER-FGM", "9"), (JAMES, "PLAYER-FGA", "20")),
        *((JAMES, "PLAYER-FTM", "5"), (JAMES, "PLAYER-FTA", "6")),
    ],
    "Horford , James and Hardaway each scored 12 points .": [
        (player, "PLAYER-PTS", "12") for player in (HORFORD, JAMES, HARDAWAY)
    ],
    "Horford and James had 12 and 25 points , respectively .": [
        *((HORFORD, "PLAYER-PTS", "12"), (JAMES, "PLAYER-PTS", "25")),
    ],
    "Tim Hardaway Jr. hit four three - pointers in thirty - two minutes .": [
        *((HARDAWAY, "PLAYER-FG3M", "4"), (HARDAWAY, "PLAYER-MIN", "32")),
    ],
    "James ' 25 - point , eight - assist night was not enough .": [
        *((JAMES, "PLAYER-PTS", "25"), (JAMES, "PLAYER-AST", "8")),
    ],
    "They got 17 points from Al Horford .": [(HORFORD, "PLAYER-PTS", "17")],
    "Atlanta shot 48 percent from the field and 38 percent from beyond the arc , and had 26 assists .": [
        *((HAWKS, "TEAM-FG_PCT", "48"), (HAWKS, "TEAM-FG3_PCT", "38"), (HAWKS, "TEAM-AST", "26")),
    ],
    # neither totals of this game, nor of someone who is named
    "Horford is averaging 15 points and 7 rebounds this season .": [],
    "He scored 20 points .": [],
    "Horford scored 10 points in the third quarter for a 15 - point lead .": [],
    "Horford and James combined for 42 points .": [],
}


@pytest.mark.parametrize("text", SENTENCES)
def test_facts_of_a_sentence(text):
    assert find_facts(text, TABLE) == [Fact(*fact) for fact in SENTENCES[text]]


def test_names_are_those_of_one_row():
    (sentence,) = split_sentences("James , LeBron James , Hardaway , Cleveland and Jones", TABLE)
    assert sentence.text == "@P3 , @P3 , @P5 , @T1 and @P4"
    rivals = (TABLE[HORFORD], make_row("Tito Horford", PLAYER_NAME="Tito Horford"))
    (sentence,) = split_sentences("Horford , Al and Tito", rivals)
    assert sentence.text == "Horford , @P0 and @P1"
    assert not find_facts("Al scored 9 points .", (make_row("", PTS="9"),))


def count_edits(first, second):
    """The distance by its recursive definition."""
    if not first or not second:
        return len(first) + len(second)
    options = [
        count_edits(first[1:], second) + 1,
        count_edits(first, second[1:]) + 1,
        count_edits(first[1:], second[1:]) + (first[0] != second[0]),
    ]
    if len(first) > 1 < len(second) and first[0] == second[1] and first[1] == second[0]:
        options.append(count_edits(first[2:], second[2:]) + 1)
    return min(options)


def test_distance_equals_its_definition():
    lists = [list(letters) for letters in ("", "a", "ab", "ba", "abc", "cab", "acbd", "abdc", "bbaa")]
    for first, second in itertools.product(lists, lists):
        expected = count_edits(first, second) / max(len(first), len(second), 1)
        facts = ([Fact(0, "PTS", letter) for letter in letters] for letters in (first, second))
        assert normalized_distance(*facts) == pytest.approx(expected)


def test_scores_of_reports():
    human = "Al Horford had 17 points and 9 rebounds . James scored 25 points ."
    outputs = [human, "James scored 25 points . Al Horford had 18 points ."]
    metric = BoxScoreFacts()
    scores = metric.score_tables(outputs, [[human]] * 2, [TABLE] * 2)
    assert scores == {
        "rg_precision_by_rules": pytest.approx(100 * 4 / 5),
        "rg_number_by_rules": pytest.approx(2.5),
        "cs_precision_by_rules": pytest.approx(100 * 4 / 5),
        "cs_recall_by_rules": pytest.approx(100 * 4 / 6),
        "co_by_rules": pytest.approx(100 * (1 + 0) / 2),
    }
    assert [metric.count_mistakes(output, TABLE) for output in outputs] == [0, 1]
    assert metric.score_tables([""], [[]], [TABLE])["rg_precision_by_rules"] == 0
