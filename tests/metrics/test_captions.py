import math
from collections import Counter

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from attendgen.metrics.captions import score_captions
from attendgen.utils.errors import UserError

# lower-case and without punctuation, so that the scorers can be called without a tokenizer
HYPOTHESES = {
    "a.jpg": "a black dog runs through the green grass",
    "b.jpg": "two children play on the beach",
    "c.jpg": "a man",
}
REFERENCES = {
    "a.jpg": ["a black dog is running through green grass", "the dog runs through the grass", "a dog runs"],
    "b.jpg": ["two children play in the sand on the beach", "children on a beach"],
    "c.jpg": ["a man in a red coat stands on a mountain", "a hiker on the top of a hill"],
}


def _ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _precision(n: int) -> float:
    matched = guessed = 0
    for key, hypothesis in HYPOTHESES.items():
        counts = _ngrams(hypothesis, n)
        best: Counter[tuple[str, ...]] = Counter()
        for reference in REFERENCES[key]:
            best |= _ngrams(reference, n)
        matched += sum((counts & best).values())
        guessed += sum(counts.values())
    return matched / guessed


def test_bleu_from_first_principles() -> None:
    """Geometric mean of clipped precisions, times exp(1 - r/c) when too short (Papineni et al. 2002, 2.3)."""
    scores = score_captions(HYPOTHESES, REFERENCES)
    length = sum(len(hypothesis.split()) for hypothesis in HYPOTHESES.values())
    closest = 0
    for key, hypothesis in HYPOTHESES.items():
        own = len(hypothesis.split())
        closest += min((abs(len(r.split()) - own), len(r.split())) for r in REFERENCES[key])[1]
    penalty = math.exp(1 - closest / length)
    assert penalty < 1
    for n in range(1, 5):
        product = math.prod(_precision(k) for k in range(1, n + 1))
        assert product > 0
        assert scores[f"bleu{n}_nobp"] == pytest.approx(product ** (1 / n), abs=1e-6)
        assert scores[f"bleu{n}"] == pytest.approx(penalty * product ** (1 / n), abs=1e-6)


@pytest.mark.parametrize("empty_key", [None, "b.jpg"])
def test_equals_pycocoevalcap(empty_key: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    hypotheses = {key: "" if key == empty_key else hypothesis for key, hypothesis in HYPOTHESES.items()}
    lists = {key: [hypothesis] for key, hypothesis in hypotheses.items()}
    bleu, _ = Bleu(4).compute_score(REFERENCES, lists, verbose=0)
    rouge, _ = Rouge().compute_score(REFERENCES, lists)
    cider, _ = Cider().compute_score(REFERENCES, lists)
    scores = score_captions(hypotheses, REFERENCES)
    assert [scores[f"bleu{n}"] for n in range(1, 5)] == pytest.approx(bleu, abs=1e-6)
    assert scores["rouge_l"] == pytest.approx(rouge, abs=1e-6)
    assert scores["cider"] == pytest.approx(cider, abs=1e-6)
    assert capsys.readouterr().out == ""


def test_case_and_punctuation_do_not_change_the_scores() -> None:
    changed = {key: hypothesis.upper() + " !" for key, hypothesis in HYPOTHESES.items()}
    assert score_captions(changed, REFERENCES) == score_captions(HYPOTHESES, REFERENCES)


def test_there_is_no_brevity_penalty_at_sufficient_length() -> None:
    longer = {"x": "a black dog runs through the green grass and then on"}
    scores = score_captions(longer, {"x": ["a black dog runs through the grass"]})
    for n in range(1, 5):
        assert scores[f"bleu{n}"] == pytest.approx(scores[f"bleu{n}_nobp"], abs=1e-9)


def test_perfect_captions_have_the_highest_scores() -> None:
    captions = {"x": "a dog on the beach", "y": "two men in a small boat"}
    scores = score_captions(captions, {key: [caption] for key, caption in captions.items()})
    for name in ("bleu4", "bleu4_nobp", "rouge_l"):
        assert scores[name] == pytest.approx(1, abs=1e-6)
    assert scores["cider"] == pytest.approx(10, abs=1e-6)


def test_length_and_distinct_words_of_the_captions() -> None:
    scores = score_captions({"x": "A dog.", "y": "a dog and a cat"}, {"x": ["a dog"], "y": ["a cat"], "unused": []})
    assert scores["mean_length"] == (2 + 5) / 2
    assert scores["distinct_words"] == len({"a", "dog", "and", "cat"})


def test_empty_hypotheses_score_zero() -> None:
    scores = score_captions(dict.fromkeys(REFERENCES, ""), REFERENCES)
    assert set(scores) == set(score_captions(HYPOTHESES, REFERENCES))
    assert all(score == pytest.approx(0, abs=1e-9) for score in scores.values())


def test_missing_hypotheses_and_references_are_refused() -> None:
    with pytest.raises(UserError, match="no hypotheses"):
        score_captions({}, REFERENCES)
    with pytest.raises(UserError, match=r"'d\.jpg' has no reference"):
        score_captions({"d.jpg": "a dog"}, REFERENCES)
    with pytest.raises(UserError, match=r"'a\.jpg' has no reference"):
        score_captions({"a.jpg": "a dog"}, {"a.jpg": []})
    with pytest.raises(UserError, match="holds a word"):
        score_captions({"a.jpg": "a dog"}, {"a.jpg": ["..."]})


def test_captions_match_whatever_their_case_and_punctuation() -> None:
    references = {0: ["A dog runs .", "The dog is running."], 1: ["A man's hat."], 2: ["A cat."]}
    outputs = {0: "a dog runs", 1: "a man's hat", 2: "a red cat"}
    assert score_captions(outputs, references)["exact_match"] == pytest.approx(2 / 3)
