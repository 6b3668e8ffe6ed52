"""NIST against a plain reading of Doddington (2002) and of mteval-13a."""

import math

import pytest

from attendgen.metrics.nist import Nist, split_words
from helpers.errors import refusal

OUTPUTS = ["The Eagle serves cheap cheap food", "a pub near the river", "Zizzi ."]
REFERENCES = [
    ["The Eagle serves cheap food, near Ranch.", "Cheap food is served at the Eagle"],
    ["Cotto is a pub by the river", "near the river there is a pub", "a pub"],
    ["Zizzi is a coffee shop."],
]


def split_plainly(text):
    """Words and signs by hand: the texts have no numbers and no hyphens."""
    for sign in ".,":
        text = text.replace(sign, f" {sign} ")
    return text.lower().split()


def list_grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def compute_nist(outputs, references, order=5):
    """The equations, with lists in place of counters."""
    corpus = [split_plainly(text) for texts in references for text in texts]
    score = 0.0
    for n in range(1, order + 1):
        longer = [gram for words in corpus for gram in list_grams(words, n)]
        shorter = [gram for words in corpus for gram in list_grams(words, n - 1)] if n > 1 else []
        information = number = 0.0
        for output, texts in zip(outputs, references, strict=True):
            grams = list_grams(split_plainly(output), n)
            number += len(grams)
            for gram in set(grams):
                limit = max(list_grams(split_plainly(text), n).count(gram) for text in texts)
                if matched := min(grams.count(gram), limit):
                    before = shorter.count(gram[:-1]) if n > 1 else sum(map(len, corpus))
                    information += matched * math.log2(before / longer.count(gram))
        score += information / number if number else 0
    length = sum(len(split_plainly(output)) for output in outputs)
    wanted = sum(sum(len(split_plainly(text)) for text in texts) / len(texts) for texts in references)
    beta = math.log(0.5) / math.log(1.5) ** 2
    return score * math.exp(beta * math.log(min(1, length / wanted)) ** 2)


@pytest.mark.parametrize("order", [1, 5])
def test_equals_a_plain_implementation(order):
    expected = compute_nist(OUTPUTS, REFERENCES, order)
    assert expected > 0
    assert Nist(order=order)(OUTPUTS, REFERENCES) == {"nist": pytest.approx(expected)}
    longer = [f"{output} and so on and so on" for output in OUTPUTS]  # no penalty
    assert Nist(order=order)(longer, REFERENCES)["nist"] == pytest.approx(compute_nist(longer, REFERENCES, order))


def test_case_does_not_count_and_missing_words_score_zero():
    assert Nist()([text.upper() for text in OUTPUTS], REFERENCES) == Nist()(OUTPUTS, REFERENCES)
    assert Nist()(["", "zebra", "."], [["a b"], ["c"], ["d"]]) == {"nist": 0.0}
    assert Nist()([""], [[""]]) == {"nist": 0.0}


def test_words_are_split_as_mteval_does():
    text = "It costs &lt; 1,000.50 (well-known) for 20-25, &quot;ok&quot;."
    words = ["it", "costs", "<", "1,000.50", "(", "well-known", ")", "for", "20", "-", "25", ",", '"', "ok", '"', "."]
    assert split_words(text) == words


def test_an_output_without_references_is_refused():
    assert "input 1 has no reference" in refusal(Nist(), OUTPUTS[:2], [["a"], []])
