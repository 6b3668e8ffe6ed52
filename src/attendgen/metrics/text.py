"""Scores of generated sentences against accepted answers or translations."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar

from attendgen.utils.errors import UserError


def _check(hypotheses: Sequence[str], references: Sequence[object]) -> None:
    if not hypotheses:
        raise UserError("text: no hypotheses to score; give at least one")
    if len(hypotheses) != len(references):
        raise UserError(f"text: {len(hypotheses)} hypotheses for {len(references)} references; give one per hypothesis")


def require_references(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Check that there are hypotheses, and that each has a reference.

    Raises:
        UserError: there are none, the numbers differ, or an input has no reference.
    """
    _check(hypotheses, references)
    for index, accepted in enumerate(references):
        if not accepted:
            raise UserError(f"text: input {index} has no reference; give at least one or leave it out")


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
    _check(hypotheses, references)
    matched = sum(hypothesis in accepted for hypothesis, accepted in zip(hypotheses, references, strict=True))
    return {
        "exact_match": matched / len(hypotheses),
        **Bleu()(hypotheses, references),
        **Chrf()(hypotheses, references),
    }


class PairScores:
    """The metrics of sentence pairs, see `score_pairs`."""

    packages: ClassVar[Mapping[str, str]] = {"sacrebleu": "translation"}

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return `exact_match`, `bleu` and `chrf`."""
        return score_pairs(outputs, references)

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the signatures of `bleu` and `chrf`."""
        return {**Bleu().sign(references), **Chrf().sign(references)}


class SacreBleuMetric:
    """A metric of sacrebleu over a corpus (Post 2018).

    Args:
        name: of the score.
        settings: of sacrebleu's class.

    Raises:
        UserError: the class has no such setting.
    """

    kind: ClassVar[str]
    packages: ClassVar[Mapping[str, str]] = {"sacrebleu": "translation"}

    def __init__(self, name: str | None = None, **settings: Any) -> None:  # noqa: ANN401  # sacrebleu's
        self.name = name or self.kind.lower()
        self.settings = settings

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the score, from 0 to 100.

        Raises:
            UserError: there are no outputs, the numbers differ, an output has no reference, or a setting is unknown.
        """
        require_references(outputs, references)
        # sacrebleu wants all first references, then all second ones ...; None, which its types forbid, if there is none
        streams: list[Any] = list(zip_longest(*references))
        return {self.name: float(self.make().corpus_score(outputs, streams).score)}

    def make(self) -> Any:  # noqa: ANN401  # sacrebleu is an extra
        """Return sacrebleu's metric.

        Raises:
            UserError: it has no such setting.
        """
        from sacrebleu import metrics

        try:
            return getattr(metrics, self.kind)(**self.settings)
        except TypeError as error:
            raise UserError(f"task.metrics: {self.kind}: {error}") from error

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return sacrebleu's signature by the name of the score (Post 2018)."""
        metric = self.make()
        numbers = {len(accepted) for accepted in references}
        metric.num_refs = numbers.pop() if len(numbers) == 1 else -1  # sacrebleu sets it when it scores
        return {self.name: str(metric.get_signature())}


class Bleu(SacreBleuMetric):
    """Cased corpus BLEU (Papineni et al. 2002); settings such as `tokenize` and `lowercase` are sacrebleu's."""

    kind = "BLEU"

    def __init__(self, name: str | None = None, **settings: Any) -> None:  # noqa: ANN401  # sacrebleu's
        super().__init__(name, **{"force": True, **settings})  # force: a final " ." is not a mistake here


class Chrf(SacreBleuMetric):
    """Corpus chrF (Popovic 2015); `word_order=2` is chrF++ (Popovic 2017)."""

    kind = "CHRF"


class Ter(SacreBleuMetric):
    """Translation edit rate (Snover et al. 2006): edits per 100 words of the reference; less is better."""

    kind = "TER"
