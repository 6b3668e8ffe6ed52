"""Scores of texts about tables against several references, as in the E2E challenge (Dusek et al. 2020)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import ClassVar

import numpy as np

from attendgen.metrics.cider import CiderD
from attendgen.metrics.meteor import score_meteor
from attendgen.metrics.nist import NistScorer
from attendgen.metrics.rouge import score_rouge_l
from attendgen.metrics.text import Bleu, require_references
from attendgen.metrics.tokenization import tokenize


class TableScores:
    """BLEU, BLEU without case, NIST, ROUGE-L and CIDEr, and METEOR in an evaluation.

    `bleu` (cased) and `bleu_lower` are sacrebleu's, from 0 to 100; the E2E challenge's BLEU is `bleu_lower`. `nist` is
    that of mteval-13a, without case. `rouge_l`, `cider` and `meteor` are coco-caption's, with its lower-case words
    without punctuation (`metrics/tokenization.py`), as fractions; CIDEr may reach 10. For a single table CIDEr is 0.

    Args:
        tokenize: how sacrebleu splits texts for both kinds of BLEU; "none" for texts whose words are split already, as
            RotoWire's, where "13a" would split Al_Horford.
    """

    packages: ClassVar[Mapping[str, str]] = {"sacrebleu": "translation"}

    def __init__(self, tokenize: str = "13a") -> None:
        self.bleu = {
            "bleu": partial(Bleu, "bleu", tokenize=tokenize),
            "bleu_lower": partial(Bleu, "bleu_lower", tokenize=tokenize, lowercase=True),
        }
        self._prepared: _PreparedReferences | None = None

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return `bleu`, `bleu_lower`, `nist`, `rouge_l` and `cider`.

        Raises:
            UserError: there are no outputs, the numbers differ, or an output has no reference.
        """
        require_references(outputs, references)
        key = [tuple(texts) for texts in references]
        # the validations of a training compare with the same texts
        if self._prepared is None or self._prepared.key != key:
            self._prepared = _PreparedReferences(key, self.bleu)
        return self._prepared.score(outputs)

    def score_slowly(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return `meteor`; nothing if Java is missing or fails."""
        return score_meteor(dict(enumerate(outputs)), dict(enumerate(references)))

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the signatures of `bleu`, `bleu_lower` and `nist`."""
        signs = [make().sign(references) for make in self.bleu.values()]
        return {name: text for each in signs for name, text in each.items()} | {
            "nist": "case:lc|order:5|tok:mteval-13a"
        }


class _PreparedReferences:
    """What the scores need of references, made once."""

    def __init__(self, key: list[tuple[str, ...]], bleu: Mapping[str, Callable[..., Bleu]]) -> None:
        self.key = key
        streams = list(zip_longest(*key))
        self.bleu = {name: make(references=streams).make() for name, make in bleu.items()}
        self.nist = NistScorer(key)
        self.cider = CiderD(dict(enumerate(key)))
        self.words = [[tokenize(text) for text in texts] for texts in key]

    def score(self, outputs: Sequence[str]) -> dict[str, float]:
        words = list(map(tokenize, outputs))
        counts = [self.nist.count(index, output) for index, output in enumerate(outputs)]
        return {
            **{name: float(metric.corpus_score(list(outputs), None).score) for name, metric in self.bleu.items()},
            "nist": self.nist.score(np.array(counts).sum(axis=0)),
            "rouge_l": float(np.mean([score_rouge_l(*pair) for pair in zip(words, self.words, strict=True)])),
            "cider": float(np.mean([self.cider(index, output) for index, output in enumerate(outputs)])),
        }
