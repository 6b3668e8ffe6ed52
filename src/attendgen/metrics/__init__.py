"""Metrics of texts, captions and language models."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.metrics.bits_per_token import BitsPerToken as BitsPerToken
    from attendgen.metrics.box_score_facts import BoxScoreFacts as BoxScoreFacts
    from attendgen.metrics.captions import CaptionScores as CaptionScores
    from attendgen.metrics.captions import score_captions as score_captions
    from attendgen.metrics.cider import CiderD as CiderD
    from attendgen.metrics.nist import Nist as Nist
    from attendgen.metrics.protocol import FactMetric as FactMetric
    from attendgen.metrics.protocol import Metric as Metric
    from attendgen.metrics.protocol import TableMetric as TableMetric
    from attendgen.metrics.record_scores import RecordScores as RecordScores
    from attendgen.metrics.slot_errors import SlotErrors as SlotErrors
    from attendgen.metrics.table_scores import TableScores as TableScores
    from attendgen.metrics.text import Bleu as Bleu
    from attendgen.metrics.text import Chrf as Chrf
    from attendgen.metrics.text import PairScores as PairScores
    from attendgen.metrics.text import Ter as Ter
    from attendgen.metrics.text import score_pairs as score_pairs

__all__ = [
    "BitsPerToken",
    "Bleu",
    "BoxScoreFacts",
    "CaptionScores",
    "Chrf",
    "CiderD",
    "FactMetric",
    "Metric",
    "Nist",
    "PairScores",
    "RecordScores",
    "SlotErrors",
    "TableMetric",
    "TableScores",
    "Ter",
    "score_captions",
    "score_pairs",
]

_PUBLIC = {
    "BitsPerToken": "bits_per_token",
    "Bleu": "text",
    "BoxScoreFacts": "box_score_facts",
    "CaptionScores": "captions",
    "Chrf": "text",
    "CiderD": "cider",
    "FactMetric": "protocol",
    "Metric": "protocol",
    "Nist": "nist",
    "PairScores": "text",
    "RecordScores": "record_scores",
    "SlotErrors": "slot_errors",
    "TableMetric": "protocol",
    "TableScores": "table_scores",
    "Ter": "text",
    "score_captions": "captions",
    "score_pairs": "text",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
