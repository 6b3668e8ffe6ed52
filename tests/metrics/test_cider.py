"""CIDEr-D as a reward against pycocoevalcap's corpus score."""

import pytest
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer

from attendgen.metrics.cider import CiderD
from attendgen.metrics.tokenization import tokenize

REFERENCES = {
    1: ["A dog runs through the grass.", "The brown dog is running .", "a dog in a field"],
    2: ["Two men sit on a bench.", "Two men are sitting on a park bench", "men on a bench"],
    "three": ["A child's red hat!", "The red hat of a child"],
    4: ["A dog sits on a bench", "the dog is sitting"],
}
HYPOTHESES = {
    1: "A brown dog runs through the grass",
    2: "two two two men on a bench on a bench",
    "three": "a hat",
    4: "zebra",
}


def corpus_scores(hypotheses: dict) -> dict:
    references = {key: [tokenize(text) for text in texts] for key, texts in REFERENCES.items()}
    _, scores = Cider().compute_score(references, {key: [tokenize(text)] for key, text in hypotheses.items()})
    return dict(zip(references, scores.tolist(), strict=True))


@pytest.mark.parametrize("shift", range(4))
def test_equals_pycocoevalcap(shift):
    keys = list(REFERENCES)
    hypotheses = {key: HYPOTHESES[keys[(i + shift) % 4]] for i, key in enumerate(keys)}
    reward = CiderD(REFERENCES)
    for key, score in corpus_scores(hypotheses).items():
        assert reward(key, hypotheses[key]) == pytest.approx(score, abs=1e-6)


def test_the_end_of_a_caption_counts_as_a_word():
    scorer = CiderScorer(n=4, sigma=6.0)
    for key, texts in REFERENCES.items():
        scorer += (f"{tokenize(HYPOTHESES[key])} end", [f"{tokenize(text)} end" for text in texts])
    reward = CiderD(REFERENCES, end=True)
    for key, score in zip(REFERENCES, scorer.compute_score()[1].tolist(), strict=True):
        assert reward(key, HYPOTHESES[key]) == pytest.approx(score, abs=1e-6)
        assert reward(key, HYPOTHESES[key], ended=False) < max(score, 1e-9)


def test_an_unfinished_caption_has_a_lower_reward():
    whole, unfinished = "Two men sit on a bench", "Two men sit on a"
    reward = CiderD(REFERENCES, end=True)
    assert reward(2, unfinished) < reward(2, unfinished, ended=False) < reward(2, whole)


def test_empty_captions_score_zero():
    reward = CiderD({1: ["a dog", "."], 2: ["a cat runs"]})
    assert reward(1, "") == reward(1, ".") == 0.0
    assert reward(1, "dog") > 0


def test_real_captions_equal_pycocoevalcap(shared):
    lines = (shared / "data/flickr8k/Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()[:1000]
    references: dict[str, list[str]] = {}
    for line in lines:
        name, _, text = line.partition("\t")
        references.setdefault(name.split("#")[0], []).append(text)
    hypotheses = {name: texts[0] for name, texts in references.items()}
    others = {name: texts[1:] for name, texts in references.items()}
    reward = CiderD(others)
    tokens = {name: [tokenize(text) for text in texts] for name, texts in others.items()}
    _, scores = Cider().compute_score(tokens, {name: [tokenize(text)] for name, text in hypotheses.items()})
    for (name, text), score in zip(hypotheses.items(), scores.tolist(), strict=True):
        assert reward(name, text) == pytest.approx(score, abs=1e-6)
