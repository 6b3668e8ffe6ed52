import importlib.util
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from attendgen.metrics.captions import caption_scores
from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_tokenizers.py"

# already lower-case and without punctuation, so that the scorers can be called without a tokenizer
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


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's T-shirt.", "a man 's t-shirt"),
        ("the dogs' bowls", "the dogs bowls"),
        ("He doesn't; they can't, it’s", "he does n't they ca n't it 's"),
        ("they cannot and we're gonna", "they can not and we 're gon na"),
        ('A sign ( "STOP!" ) -- red , white', "a sign -lrb- stop -rrb- red white"),
        ("at&t , AT&T and M & M", "at & t at&t and m & m"),
        ("Mr. Potato in the U.S. at 8:25.", "mr. potato in the u.s. at 8:25"),
        ("rock 'n' roll at 5 o'clock y'all", "rock 'n' roll at 5 o'clock y' all"),
        ("a 5-year-old jumps 10,000.5 ft for $5", "a 5-year-old jumps 10,000.5 ft for $ 5"),
        ("café\nwith\ttwo  tables 😀…", "café with two tables"),
        ("...", ""),
        ("", ""),
    ],
)
def test_tokenise(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens


def test_tokens_are_stable() -> None:
    # the scorers' own splitting must find the very same words
    text = tokenize("Two dogs (one's black) can't catch a 3rd, red/white ball!")
    assert tokenize(text) == text


@pytest.mark.parametrize("unit", ["1-", "a.", "a/", "1.1-", "1/1-", "a_", "A&", "a'"])
def test_no_rule_backtracks_exponentially(unit: str) -> None:
    """Ambiguous repetition would never come back from these; what does must hold every letter and digit."""
    text = tokenize(unit * 300 + "!")
    assert [char for char in text if char.isalnum()] == [char for char in (unit * 300).lower() if char.isalnum()]


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
    scores = caption_scores(HYPOTHESES, REFERENCES)
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


@pytest.mark.parametrize("emptied", [None, "b.jpg"])
def test_equals_pycocoevalcap(emptied: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    hypotheses = {key: "" if key == emptied else hypothesis for key, hypothesis in HYPOTHESES.items()}
    lists = {key: [hypothesis] for key, hypothesis in hypotheses.items()}
    bleu, _ = Bleu(4).compute_score(REFERENCES, lists, verbose=0)
    rouge, _ = Rouge().compute_score(REFERENCES, lists)
    cider, _ = Cider().compute_score(REFERENCES, lists)
    scores = caption_scores(hypotheses, REFERENCES)
    assert [scores[f"bleu{n}"] for n in range(1, 5)] == pytest.approx(bleu, abs=1e-6)
    assert scores["rouge_l"] == pytest.approx(rouge, abs=1e-6)
    assert scores["cider"] == pytest.approx(cider, abs=1e-6)
    assert capsys.readouterr().out == ""


def test_case_and_punctuation_do_not_count() -> None:
    shouted = {key: hypothesis.upper() + " !" for key, hypothesis in HYPOTHESES.items()}
    assert caption_scores(shouted, REFERENCES) == caption_scores(HYPOTHESES, REFERENCES)


def test_no_penalty_at_sufficient_length() -> None:
    longer = {"x": "a black dog runs through the green grass and then on"}
    scores = caption_scores(longer, {"x": ["a black dog runs through the grass"]})
    for n in range(1, 5):
        assert scores[f"bleu{n}"] == pytest.approx(scores[f"bleu{n}_nobp"], abs=1e-9)


def test_perfect_captions() -> None:
    captions = {"x": "a dog on the beach", "y": "two men in a small boat"}
    scores = caption_scores(captions, {key: [caption] for key, caption in captions.items()})
    for name in ("bleu4", "bleu4_nobp", "rouge_l"):
        assert scores[name] == pytest.approx(1, abs=1e-6)
    assert scores["cider"] == pytest.approx(10, abs=1e-6)


def test_length_and_vocabulary_use() -> None:
    scores = caption_scores({"x": "A dog.", "y": "a dog and a cat"}, {"x": ["a dog"], "y": ["a cat"], "unused": []})
    assert scores["mean_length"] == (2 + 5) / 2
    assert scores["distinct_words"] == len({"a", "dog", "and", "cat"})


def test_empty_hypotheses_score_zero() -> None:
    scores = caption_scores(dict.fromkeys(REFERENCES, ""), REFERENCES)
    assert set(scores) == set(caption_scores(HYPOTHESES, REFERENCES))
    assert all(score == pytest.approx(0, abs=1e-9) for score in scores.values())


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="no hypotheses"):
        caption_scores({}, REFERENCES)
    with pytest.raises(UserError, match=r"'d\.jpg' has no reference"):
        caption_scores({"d.jpg": "a dog"}, REFERENCES)
    with pytest.raises(UserError, match=r"'a\.jpg' has no reference"):
        caption_scores({"a.jpg": "a dog"}, {"a.jpg": []})
    with pytest.raises(UserError, match="holds a word"):
        caption_scores({"a.jpg": "a dog"}, {"a.jpg": ["..."]})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs java")
def test_equals_the_java_tokeniser(shared: Path) -> None:
    spec = importlib.util.spec_from_file_location("compare_tokenizers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    captions = script.flickr8k_captions(shared / "data" / "flickr8k" / "Flickr8k.token.txt")
    for file in sorted((shared / "data" / "coco_mini" / "annotations").glob("*.json")):
        captions += script.coco_captions(file)
    captions = [" ".join(caption.split()) for caption in captions]
    assert len(captions) > 35_000
    java = script.java_tokenise(captions)
    assert [caption for caption, theirs in zip(captions, java, strict=True) if tokenize(caption) != theirs] == []
