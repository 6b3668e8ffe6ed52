"""Scores of generated sentences against accepted answers or translations."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from attendgen.utils.errors import UserError


def _check(hypotheses: Sequence[str], references: Sequence[object]) -> None:
    if not hypotheses:
        raise UserError("text: no hypotheses to score; give at least one")
    if len(hypotheses) != len(references):
        raise UserError(f"text: {len(hypotheses)} hypotheses for {len(references)} references; give one per hypothesis")


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the fraction of hypotheses that equal their reference.

    Raises:
        UserError: there are none, or the numbers differ.
    """
    _check(hypotheses, references)
    return sum(map(str.__eq__, hypotheses, references)) / len(hypotheses)


def score_pairs(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `exact_match` with any accepted reference (0..1); cased corpus `bleu` and `chrf` by sacrebleu (0..100).

    `references[i]` are the accepted outputs of input i; inputs may have different numbers of them.

    Raises:
        UserError: there are none, the numbers differ, or an input has no reference.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    _check(hypotheses, references)
    for index, accepted in enumerate(references):
        if not accepted:
            raise UserError(f"text: input {index} has no reference; give at least one or leave it out")
    # sacrebleu wants all first references, then all second ones ...; None, which its types forbid, where there is none
    streams: list[Any] = list(zip_longest(*references))
    matched = sum(hypothesis in accepted for hypothesis, accepted in zip(hypotheses, references, strict=True))
    return {
        "exact_match": matched / len(hypotheses),
        "bleu": BLEU(force=True).corpus_score(hypotheses, streams).score,  # force: a final " ." is not a mistake here
        "chrf": CHRF().corpus_score(hypotheses, streams).score,
    }
