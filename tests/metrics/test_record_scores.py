"""Recall and precision of records, counted by hand."""

import pytest

from attendgen.layers.tables import Cell, Row
from attendgen.metrics.record_scores import RecordScores

HORFORD = Row(
    "Al_Horford",
    tuple(
        Cell(kind, "Al_Horford", value)
        for kind, value in (("PLAYER_NAME", "Al_Horford"), ("PLAYER-PTS", "17"), ("PLAYER-REB", "9"))
    ),
)
HAWKS = Row("Hawks", (Cell("TEAM_NAME", "Hawks", "Hawks"), Cell("TEAM-PTS", "Hawks", "103")))
TABLE = (HORFORD, HAWKS)
TEXTS = {
    "Al_Horford scored 17 points and 9 boards as the Hawks , with 103 points , won .": ((5, 5), (4, 4)),
    "Al_Horford (17) was better than Jeff_Teague (12); the Hawks won, 103-99.": ((3, 5), (2, 4)),
    "17 and 17 : the Hawks": ((2, 5), (2, 2)),
    "No one scored .": ((0, 5), (0, 0)),
}


@pytest.mark.parametrize("text", TEXTS)
def test_counts(text):
    said, confirmed = TEXTS[text]
    counts = RecordScores().count(text, [], TABLE)
    assert counts == {"record_recall": said, "record_precision": confirmed}
    assert RecordScores().count_mistakes(text, TABLE) == (said[1] - said[0]) + (confirmed[1] - confirmed[0])


def test_scores_are_shares_of_all_records_and_of_all_that_is_said():
    scores = RecordScores().score_tables(list(TEXTS), [[]] * 4, [TABLE] * 4)
    assert scores == {
        "record_recall": pytest.approx(100 * 10 / 20),
        "record_precision": pytest.approx(100 * 8 / 10),
    }


def test_values_of_several_words_are_said_as_a_whole():
    table = (Row("city", (Cell("TEAM-CITY", "", "New York"),)),)
    assert RecordScores().count("They are in New York .", [], table)["record_recall"] == (1, 1)
    assert RecordScores().count("A new York bar", [], table)["record_recall"] == (0, 1)
