"""Texts to tokens to ids, and back."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.text.pretrained_embeddings import PretrainedEmbeddings as PretrainedEmbeddings
    from attendgen.text.protocol import Tokenizer as Tokenizer
    from attendgen.text.protocol import TrainableTokenizer as TrainableTokenizer
    from attendgen.text.protocol import VocabularyProtocol as VocabularyProtocol
    from attendgen.text.subwords import BPETokenizer as BPETokenizer
    from attendgen.text.subwords import UnigramTokenizer as UnigramTokenizer
    from attendgen.text.table_vocabulary import TableVocabulary as TableVocabulary
    from attendgen.text.vocabulary import PairVocabulary as PairVocabulary
    from attendgen.text.vocabulary import Vocabulary as Vocabulary

__all__ = [
    "BPETokenizer",
    "PairVocabulary",
    "PretrainedEmbeddings",
    "TableVocabulary",
    "Tokenizer",
    "TrainableTokenizer",
    "UnigramTokenizer",
    "Vocabulary",
    "VocabularyProtocol",
]

_PUBLIC = {
    "BPETokenizer": "subwords",
    "PairVocabulary": "vocabulary",
    "PretrainedEmbeddings": "pretrained_embeddings",
    "TableVocabulary": "table_vocabulary",
    "Tokenizer": "protocol",
    "TrainableTokenizer": "protocol",
    "UnigramTokenizer": "subwords",
    "Vocabulary": "vocabulary",
    "VocabularyProtocol": "protocol",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
