"""Metrics of texts, captions and language models."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.metrics.bits_per_token import BitsPerToken as BitsPerToken
    from attendgen.metrics.captions import score_captions as score_captions
    from attendgen.metrics.cider import CiderD as CiderD
    from attendgen.metrics.text import score_pairs as score_pairs

__all__ = [
    "BitsPerToken",
    "CiderD",
    "score_captions",
    "score_pairs",
]

_PUBLIC = {
    "BitsPerToken": "bits_per_token",
    "CiderD": "cider",
    "score_captions": "captions",
    "score_pairs": "text",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
