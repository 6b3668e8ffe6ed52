"""The scores of texts about tables against the metrics and packages that define each."""

import math

import pytest

from attendgen.metrics.captions import score_captions
from attendgen.metrics.nist import Nist
from attendgen.metrics.protocol import score_texts_slowly
from attendgen.metrics.table_scores import TableScores
from attendgen.metrics.text import Bleu, PairScores
from helpers.errors import refusal

OUTPUTS = ["the Eagle serves cheap French food near Ranch .", "Cotto is a Pub by the river", ""]
REFERENCES = [
    ["The Eagle serves cheap French food near Ranch.", "Near Ranch is The Eagle, which is cheap."],
    ["Cotto is a pub near the river", "Cotto is a pub", "By the river is a pub, Cotto"],
    ["Zizzi is a coffee shop."],
]


def compute_scores(outputs, references):
    captions = score_captions(dict(enumerate(outputs)), dict(enumerate(references)))
    return {
        **Bleu()(outputs, references),
        **Bleu("bleu_lower", lowercase=True)(outputs, references),
        **Nist()(outputs, references),
        "rouge_l": captions["rouge_l"],
        "cider": captions["cider"],
    }


def test_scores_are_those_of_each_metric_whatever_was_scored_before():
    metric = TableScores()
    for outputs, references in (
        (OUTPUTS, REFERENCES),
        (OUTPUTS[::-1], REFERENCES),
        (OUTPUTS[:2], REFERENCES[:2]),
        (OUTPUTS, REFERENCES),
    ):
        assert metric(outputs, references) == pytest.approx(compute_scores(outputs, references))
    assert metric(OUTPUTS, REFERENCES)["bleu_lower"] > metric(OUTPUTS, REFERENCES)["bleu"]


def test_bleu_without_case_from_first_principles():
    """One word of six differs, whatever its case: precisions 5/6, 4/5, 3/4, 2/3 (Papineni et al. 2002)."""
    scores = TableScores()(["A b C d e X"], [["a B c d E f"]])
    assert scores["bleu_lower"] == pytest.approx(100 * math.prod((5 / 6, 4 / 5, 3 / 4, 2 / 3)) ** (1 / 4))
    assert scores["bleu"] < scores["bleu_lower"]


def test_words_that_are_split_already_are_left_whole():
    outputs, references = ["Al_Horford had 17 points ."], [["Al_Jefferson had 17 points ."]]
    whole = TableScores("none")(outputs, references)["bleu"]
    # one word of five differs
    assert whole == pytest.approx(100 * math.prod((4 / 5, 3 / 4, 2 / 3, 1 / 2)) ** (1 / 4))
    assert whole != pytest.approx(TableScores()(outputs, references)["bleu"])
    assert "tok:none" in TableScores("none").sign(references)["bleu"]


def test_signatures_tell_the_two_kinds_of_bleu_apart():
    signs = TableScores().sign(REFERENCES)
    assert "case:mixed" in signs["bleu"]
    assert all("case:lc" in signs[name] for name in ("bleu_lower", "nist"))


def test_meteor_is_computed_apart_and_left_out_without_java(monkeypatch):
    assert score_texts_slowly([TableScores(), PairScores()], OUTPUTS, REFERENCES) == {}
    monkeypatch.setattr("attendgen.metrics.meteor.is_java_present", lambda: True)
    monkeypatch.setattr("attendgen.metrics.meteor.meteor", lambda hypotheses, references: len(hypotheses) / 10)
    assert score_texts_slowly([TableScores(), PairScores()], OUTPUTS, REFERENCES) == {"meteor": 0.3}


def test_an_output_without_references_is_refused():
    assert "input 2 has no reference" in refusal(TableScores(), OUTPUTS, [*REFERENCES[:2], []])
