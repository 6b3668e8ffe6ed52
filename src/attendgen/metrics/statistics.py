"""Statistics of each output from which the score of any sample of outputs follows, without reading texts again."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from attendgen.layers.tables import Table
from attendgen.metrics.box_score_facts import BoxScoreFacts
from attendgen.metrics.counted import CountedMetric, Share, divide
from attendgen.metrics.nist import NistScorer
from attendgen.metrics.record_scores import RecordScores
from attendgen.metrics.slot_errors import SlotErrors
from attendgen.metrics.text import Bleu, Chrf, SacreBleuMetric, Ter
from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError
from attendgen.utils.packages import require_packages

TINY, SMALL = 1e-15, 1e-9  # the smoothing of pycocoevalcap's BLEU


class Statistics(NamedTuple):
    """Numbers of each output, and the score of outputs whose numbers have a given sum."""

    values: Float[np.ndarray, "outputs numbers"]
    score: Callable[[Float[np.ndarray, " numbers"]], float]


def collect_statistics(
    metric: str,
    outputs: Sequence[str],
    references: Sequence[Sequence[str]],
    tables: Sequence[Table] | None = None,
) -> Statistics:
    """Return the statistics of outputs for a metric of `METRICS`, or of `TABLE_METRICS` if they are about tables.

    Raises:
        UserError: the metric is unknown, a package that it needs is missing, or it needs tables.
    """
    if metric in METRICS:
        return METRICS[metric](outputs, references)
    if metric not in TABLE_METRICS:
        raise UserError(
            f"--metric {metric}: cannot be resampled; choose one of {', '.join((*METRICS, *TABLE_METRICS))}"
        )
    if tables is None:
        raise UserError(f"--metric {metric}: compares texts with tables, which these runs have not; choose another")
    counter = TABLE_METRICS[metric]()
    rows = [counter.count(*example)[metric] for example in zip(outputs, references, tables, strict=True)]
    values = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return Statistics(values, lambda total: divide(Share(*total.tolist()), counter.unit))


def _average(values: Sequence[float]) -> Statistics:
    """Return the statistics of a score that is a mean over outputs."""
    numbers = np.array([values, np.ones(len(values))], dtype=np.float64).T
    return Statistics(numbers, lambda total: float(total[0] / total[1]))


def _match(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    return _average([float(output in accepted) for output, accepted in zip(outputs, references, strict=True)])


def _of_sacrebleu(
    make: Callable[[], SacreBleuMetric],
) -> Callable[[Sequence[str], Sequence[Sequence[str]]], Statistics]:
    def collect(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        chosen = make()
        require_packages(chosen.packages)
        metric = chosen.make(references)
        # as sacrebleu's own tests of significance do, which are not used: they find equal outputs different
        rows = metric._extract_corpus_statistics(list(outputs), list(zip_longest(*references)))
        values = np.array(rows, dtype=np.float64)
        return Statistics(values, lambda total: float(metric._compute_score_from_stats(total.tolist()).score))

    return collect


def _nist(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Return what NIST sums over outputs; the information of n-grams stays that of all references."""
    scorer = NistScorer(references)
    rows = [scorer.count(index, output) for index, output in enumerate(outputs)]
    return Statistics(np.array(rows, dtype=np.float64), scorer.score)


def _of_images(name: str) -> Callable[[Sequence[str], Sequence[Sequence[str]]], Statistics]:
    """Return what collects the scores of single images by pycocoevalcap."""

    def collect(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        require_packages({"pycocoevalcap": "captions"})
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        refs, hyps = _tokenize(outputs, references)
        scorer: Any = {"cider": Cider, "rouge_l": Rouge}[name]()
        _, scores = scorer.compute_score(refs, {key: [text] for key, text in hyps.items()})
        return _average([float(score) for score in scores])

    return collect


def _caption_bleu(order: int) -> Callable[[Sequence[str], Sequence[Sequence[str]]], Statistics]:
    """Return what collects the n-gram counts of captions for BLEU-n as COCO reports it."""

    def collect(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        require_packages({"pycocoevalcap": "captions"})
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer

        refs, hyps = _tokenize(outputs, references)
        scorer = BleuScorer(n=4)
        for key, hypothesis in hyps.items():
            scorer += (hypothesis, refs[key])
        rows = [
            [*counts["correct"][:order], *counts["guess"][:order], counts["testlen"], _find_closest(counts)]
            for counts in scorer.ctest
        ]
        return Statistics(np.array(rows, dtype=np.float64), _score_bleu)

    return collect


def _score_bleu(total: Float[np.ndarray, " numbers"]) -> float:
    *counts, length, wanted = total.tolist()
    order = len(counts) // 2
    pairs = zip(counts[:order], counts[order:], strict=True)
    logs = [math.log((matched + TINY) / (guessed + SMALL)) for matched, guessed in pairs]
    ratio = (length + TINY) / (wanted + SMALL)
    return math.exp(sum(logs) / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def _find_closest(counts: dict[str, Any]) -> int:
    return min((abs(length - counts["testlen"]), length) for length in counts["reflen"])[1]


def _tokenize(
    outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, str]]:
    refs = {key: [tokenize(text) for text in texts] for key, texts in enumerate(references)}
    return refs, {key: tokenize(text) for key, text in enumerate(outputs)}


METRICS: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], Statistics]] = {
    "exact_match": _match,
    "bleu": _of_sacrebleu(Bleu),
    "bleu_lower": _of_sacrebleu(partial(Bleu, lowercase=True)),
    "nist": _nist,
    "chrf": _of_sacrebleu(Chrf),
    "ter": _of_sacrebleu(Ter),
    "cider": _of_images("cider"),
    "rouge_l": _of_images("rouge_l"),
    **{f"bleu{order}": _caption_bleu(order) for order in range(1, 5)},
}

# scores by which texts are compared with their tables
TABLE_METRICS: dict[str, type[CountedMetric]] = {
    **dict.fromkeys(("ser", "ser_added", "ser_missing", "ser_wrong"), SlotErrors),
    **dict.fromkeys(("record_recall", "record_precision"), RecordScores),
    **dict.fromkeys(
        [
            *("rg_precision_by_rules", "rg_number_by_rules", "cs_precision_by_rules", "cs_recall_by_rules"),
            "co_by_rules",
        ],
        BoxScoreFacts,
    ),
}
