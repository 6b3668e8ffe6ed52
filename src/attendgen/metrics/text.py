"""Scores of generated sentences against accepted answers or translations."""

import contextlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar

from attendgen.config.instantiate import get_first_line
from attendgen.utils.errors import UserError
from attendgen.utils.scripts import choose_tokenizer


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


def score_pairs(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], bleu: "Bleu | None" = None
) -> dict[str, float]:
    """Return `exact_match` with any accepted reference (0..1); cased corpus `bleu` and `chrf` by sacrebleu (0..100).

    `references[i]` are the accepted outputs of input i; inputs may have different numbers of them.

    Raises:
        UserError: there are none, the numbers differ, or an input has no reference.
    """
    _check(hypotheses, references)
    matched = sum(hypothesis in accepted for hypothesis, accepted in zip(hypotheses, references, strict=True))
    return {
        "exact_match": matched / len(hypotheses),
        **(bleu or Bleu())(hypotheses, references),
        **Chrf()(hypotheses, references),
    }


class PairScores:
    """The metrics of sentence pairs, see `score_pairs`.

    Args:
        tokenize: see `Bleu`.
    """

    packages: ClassVar[Mapping[str, str]] = {"sacrebleu": "translation"}

    def __init__(self, tokenize: str = "auto") -> None:
        self.bleu = Bleu(tokenize=tokenize)

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return `exact_match`, `bleu` and `chrf`."""
        return score_pairs(outputs, references, self.bleu)

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the signatures of `bleu` and `chrf`."""
        return {**self.bleu.sign(references), **Chrf().sign(references)}


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
        return {self.name: float(self.make(references).corpus_score(outputs, streams).score)}

    def choose_settings(self, references: Sequence[Sequence[str]]) -> dict[str, Any]:  # noqa: ARG002
        """Return the settings of sacrebleu's class for some references."""
        return self.settings

    def make(self, references: Sequence[Sequence[str]] = ()) -> Any:  # noqa: ANN401  # sacrebleu is an extra
        """Return sacrebleu's metric for some references.

        Raises:
            UserError: it has no such setting.
        """
        from sacrebleu import metrics

        try:
            return getattr(metrics, self.kind)(**self.choose_settings(references))
        except (TypeError, KeyError, ValueError, RuntimeError, ImportError) as error:
            raise UserError(f"task.metrics: {self.kind}: {get_first_line(error)}") from error

    def sign(self, references: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return sacrebleu's signature by the name of the score (Post 2018)."""
        metric = self.make(references)
        numbers = {len(accepted) for accepted in references}
        metric.num_refs = numbers.pop() if len(numbers) == 1 else -1  # sacrebleu sets it when it scores
        return {self.name: str(metric.get_signature())}


class Bleu(SacreBleuMetric):
    """Cased corpus BLEU (Papineni et al. 2002).

    Args:
        name: of the score.
        tokenize: one of sacrebleu's tokenizers, or "auto", which goes by the script of the references: Chinese,
            Japanese and other scripts without blanks are compared by character, all others by 13a's words.
        settings: of sacrebleu's class, such as `lowercase`.

    Raises:
        UserError: sacrebleu has no such tokenizer.
    """

    kind = "BLEU"

    def __init__(self, name: str | None = None, tokenize: str = "auto", **settings: Any) -> None:  # noqa: ANN401
        super().__init__(name, **{"force": True, **settings})  # force: a final " ." is not a mistake here
        self.tokenize = tokenize
        if tokenize != "auto":
            self.require_tokenizer(tokenize)

    def require_tokenizer(self, name: str) -> None:
        """Check that sacrebleu has a tokenizer; without sacrebleu, its absence is reported later.

        Raises:
            UserError: it has none of this name.
        """
        with contextlib.suppress(ImportError):
            from sacrebleu.metrics.bleu import BLEU

            if name not in BLEU.TOKENIZERS:
                raise UserError(f"metrics.tokenize={name}: choose one of auto, {', '.join(sorted(BLEU.TOKENIZERS))}")

    def choose_settings(self, references: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return the settings of sacrebleu's class, with the tokenizer for these references."""
        auto = self.tokenize == "auto"
        chosen = choose_tokenizer(text for texts in references for text in texts) if auto else self.tokenize
        return {"tokenize": chosen, **self.settings}


class Chrf(SacreBleuMetric):
    """Corpus chrF (Popovic 2015); `word_order=2` is chrF++ (Popovic 2017)."""

    kind = "CHRF"


class Ter(SacreBleuMetric):
    """Translation edit rate (Snover et al. 2006): edits per 100 words of the reference; less is better."""

    kind = "TER"
