"""Metrics as objects: those of sacrebleu, and functions of the user's own."""

import pytest

from attendgen.metrics.captions import CaptionScores, score_captions
from attendgen.metrics.protocol import require_metrics, score_texts
from attendgen.metrics.text import Bleu, Chrf, PairScores, Ter, score_pairs
from helpers.errors import refusal

OUTPUTS = ["the cat sat on the mat .", "a dog runs"]
REFERENCES = [["the cat sat on a mat ."], ["the dog runs fast", "a dog walks"]]


def count_words(outputs, references):
    return {"words": sum(len(output.split()) for output in outputs)}


def test_scores_of_all_metrics_are_together():
    found = score_texts([PairScores(), Chrf("chrf++", word_order=2), count_words], OUTPUTS, REFERENCES)
    assert found == {
        **score_pairs(OUTPUTS, REFERENCES),
        **Chrf("chrf++", word_order=2)(OUTPUTS, REFERENCES),
        "words": 10.0,
    }
    assert found["chrf++"] != found["chrf"]


def test_edit_rate_counts_edits_per_word_of_the_reference():
    # one substitution in 7 words, and one in the second reference; references of 7 and on average 3.5 words
    assert Ter()(OUTPUTS[:1], REFERENCES[:1]) == {"ter": pytest.approx(100 / 7)}
    assert Ter()(OUTPUTS, REFERENCES) == {"ter": pytest.approx(100 * 2 / 10.5)}


def test_settings_are_those_of_sacrebleu():
    assert Bleu(lowercase=True)(["THE CAT SAT ON THE MAT ."], REFERENCES[:1]) == Bleu()(OUTPUTS[:1], REFERENCES[:1])
    assert "task.metrics: BLEU:" in refusal(Bleu(likeness=3), OUTPUTS, REFERENCES)


def test_captions_are_compared_with_all_their_references():
    captions = ["a dog runs", "a cat"]
    references = [["a dog runs", "the dog"], ["a bird", "a fish"]]
    scores = CaptionScores()(captions, references)
    assert scores["exact_match"] == 0.5
    assert scores == score_captions(dict(enumerate(captions)), dict(enumerate(references)))


def test_mistakes_are_one_line():
    def lists(outputs, references):
        return [1.0]

    assert refusal(require_metrics, [count_words, 3]).startswith("task.metrics[1]: int cannot be called")
    for metrics, message in (
        ([count_words, lists], "task.metrics[1]: lists returned list; expected numbers by name"),
        ([count_words, count_words], "task.metrics[1]: count_words: another metric has the score words, too"),
    ):
        assert refusal(score_texts, metrics, OUTPUTS, REFERENCES).startswith(message)
