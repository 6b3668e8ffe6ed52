import math

import pytest

from attendgen.metrics.text import PairScores, exact_match, score_pairs
from attendgen.utils.errors import UserError


def test_exact_match_is_a_fraction() -> None:
    assert exact_match(["Oui.", "non", "Bien", "Ça va"], ["Oui.", "Non", "Bien ", "Ça va"]) == 2 / 4


def test_perfect_outputs_have_the_highest_scores() -> None:
    texts = ["Je vais très bien, merci.", "Two dogs run on the beach."]
    scores = score_pairs(texts, [[text] for text in texts])
    assert scores["exact_match"] == 1
    assert scores["bleu"] == pytest.approx(100)
    assert scores["chrf"] == pytest.approx(100)


def test_outputs_without_common_characters_score_zero() -> None:
    scores = score_pairs(["xxxx"], [["aaaa"]])
    assert scores["exact_match"] == 0
    assert scores["chrf"] == pytest.approx(0)


def test_bleu_from_first_principles() -> None:
    """One word of six differs: precisions 5/6, 4/5, 3/4, 2/3, no brevity penalty (Papineni et al. 2002)."""
    scores = score_pairs(["a b c d e F"], [["a b c d e f"]])
    assert scores["bleu"] == pytest.approx(100 * math.prod((5 / 6, 4 / 5, 3 / 4, 2 / 3)) ** (1 / 4))


def test_inputs_may_have_different_numbers_of_references() -> None:
    """Both references of the first input count, and the only one of the second."""
    hypotheses = ["a b c d e f", "g h i j k l"]
    most = [["x x x", "a b c d e f"], ["g h i j k l"]]
    scores = score_pairs(hypotheses, most)
    assert scores["exact_match"] == 1
    assert scores["bleu"] == pytest.approx(100)
    assert scores["chrf"] == pytest.approx(100)
    # a repeated reference changes nothing
    mixed = [["a b c x e f", "a b q d"], ["g h i j"]]
    filled = [mixed[0], mixed[1] * 2]
    assert score_pairs(hypotheses, mixed) == pytest.approx(score_pairs(hypotheses, filled))
    assert score_pairs(hypotheses, mixed[::-1])["bleu"] < score_pairs(hypotheses, mixed)["bleu"]


def test_empty_outputs_score_zero() -> None:
    assert score_pairs(["", ""], [["a b c d"], ["e f g h"]]) == {"exact_match": 0, "bleu": 0, "chrf": 0}


def test_missing_hypotheses_and_references_are_refused() -> None:
    with pytest.raises(UserError, match="no hypotheses"):
        exact_match([], [])
    with pytest.raises(UserError, match="1 hypotheses for 2 references"):
        exact_match(["a"], ["a", "b"])
    with pytest.raises(UserError, match="2 hypotheses for 1 references"):
        score_pairs(["a", "b"], [["a"]])
    with pytest.raises(UserError, match="input 1 has no reference"):
        score_pairs(["a", "b"], [["a"], []])


def test_equal_outputs_without_blanks_have_the_highest_score() -> None:
    texts = ["一辆红色的车停在路上。", "两只狗在沙滩上跑。"]
    pairs = [[text] for text in texts]
    assert score_pairs(texts, pairs)["bleu"] == pytest.approx(100)
    assert "tok:zh" in PairScores().sign(pairs)["bleu"]
    assert "tok:13a" in PairScores().sign([["A dog runs."]])["bleu"]
    one = "一辆红色的车停在街上。"  # one of eleven characters differs: precisions 10/11, 8/10, 6/9, 5/8
    precisions = (10 / 11, 8 / 10, 6 / 9, 5 / 8)
    expected = 100 * math.prod(precisions) ** (1 / 4)
    assert PairScores()([one], [["一辆红色的车停在路上。"]])["bleu"] == pytest.approx(expected)


def test_tokenizer_can_be_chosen() -> None:
    pairs = [["一辆红色的车。"]]
    assert "tok:char" in PairScores("char").sign(pairs)["bleu"]
    assert PairScores("none")(["一辆红色的车。"], pairs)["bleu"] == 0
    with pytest.raises(UserError, match=r"metrics\.tokenize=jieba: choose one of auto, .*zh"):
        PairScores("jieba")
