"""Metrics of texts, captions and language models."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.metrics.bits_per_token import BitsPerToken as BitsPerToken
    from attendgen.metrics.captions import caption_scores as caption_scores
    from attendgen.metrics.cider import CiderD as CiderD
    from attendgen.metrics.text import pair_scores as pair_scores

__all__ = [
    "BitsPerToken",
    "CiderD",
    "caption_scores",
    "pair_scores",
]

_PUBLIC = {
    "BitsPerToken": "bits_per_token",
    "CiderD": "cider",
    "caption_scores": "captions",
    "pair_scores": "text",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
