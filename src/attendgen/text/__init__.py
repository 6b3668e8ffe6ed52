"""Texts to tokens to ids, and back."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.text.pretrained_embeddings import PretrainedEmbeddings as PretrainedEmbeddings
    from attendgen.text.vocabulary import PairVocabulary as PairVocabulary
    from attendgen.text.vocabulary import Vocabulary as Vocabulary

__all__ = [
    "PairVocabulary",
    "PretrainedEmbeddings",
    "Vocabulary",
]

_PUBLIC = {
    "PairVocabulary": "vocabulary",
    "PretrainedEmbeddings": "pretrained_embeddings",
    "Vocabulary": "vocabulary",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
