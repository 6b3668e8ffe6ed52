"""Caption scores as the COCO evaluation server computes them, without Java."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from attendgen.metrics.meteor import score_meteor
from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError

Key = TypeVar("Key", bound=Hashable)


def _bleu(hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for key, hypothesis in hypotheses.items():
        scorer += (hypothesis, references[key])
    scores, _ = scorer.compute_score(option="closest", verbose=0)
    named = {f"bleu{n}": float(score) for n, score in enumerate(scores, start=1)}
    logs = 0.0
    for n in range(1, 5):
        matched = sum(counts["correct"][n - 1] for counts in scorer.ctest)
        guessed = sum(counts["guess"][n - 1] for counts in scorer.ctest)
        logs += math.log((matched + 1e-15) / (guessed + 1e-9))  # BleuScorer's own smoothing
        named[f"bleu{n}_nobp"] = math.exp(logs / n) if guessed else 0.0
    return named


def score_captions(hypotheses: Mapping[Key, str], references: Mapping[Key, Sequence[str]]) -> dict[str, float]:
    """Score one caption per image against its references, as fractions; CIDEr may reach 10.

    `exact_match` is the share of hypotheses with the tokens of a reference: case and punctuation do not count.
    `bleu1` to `bleu4` have the brevity penalty, as COCO reports them; `bleu1_nobp` to `bleu4_nobp` have none, as in
    Show, Attend and Tell (Xu et al. 2015, table 1). `mean_length` and `distinct_words` describe the hypotheses alone.
    CIDEr weighs words by their frequency in these references: for a single image it is 0.

    Raises:
        UserError: there are no hypotheses, one has no references, or no reference has a word.
    """
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if not hypotheses:
        raise UserError("captions: no hypotheses to score; give at least one")
    for key in hypotheses:
        if not references.get(key):
            raise UserError(f"captions: {key!r} has no reference captions; give at least one or leave it out")
    hyps = {key: tokenize(caption) for key, caption in hypotheses.items()}
    refs = {key: [tokenize(caption) for caption in references[key]] for key in hyps}
    matched = sum(caption in refs[key] for key, caption in hyps.items())
    if not any(caption for captions in refs.values() for caption in captions):
        raise UserError(
            f"captions: none of the references of {len(refs)} images holds a word; check the captions' file"
        )
    lists = {key: [caption] for key, caption in hyps.items()}
    words = [caption.split() for caption in hyps.values()]
    return {
        "exact_match": matched / len(hyps),
        **_bleu(hyps, refs),
        "rouge_l": float(Rouge().compute_score(refs, lists)[0]),
        "cider": float(Cider().compute_score(refs, lists)[0]),
        "mean_length": sum(map(len, words)) / len(words),
        "distinct_words": float(len({word for caption in words for word in caption})),
    }


class CaptionScores:
    """The metrics of captions: those of `score_captions`, and METEOR in an evaluation."""

    packages: ClassVar[Mapping[str, str]] = {"pycocoevalcap": "captions"}

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the scores of `score_captions`."""
        return score_captions(dict(enumerate(outputs)), dict(enumerate(references)))

    def score_slowly(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return `meteor`; nothing if Java is missing or fails."""
        return score_meteor(dict(enumerate(outputs)), dict(enumerate(references)))
