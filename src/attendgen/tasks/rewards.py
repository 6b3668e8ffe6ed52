"""The reward of self-critical training: CIDEr-D of sampled captions."""

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.metrics.cider import END, CiderD
from attendgen.metrics.token_cider import TokenCiderD
from attendgen.metrics.tokenization import is_context_free, tokenize
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.tokenizers import LevelTokenizer
from attendgen.utils.special_tokens import EOS, PAD, SOS

log = logging.getLogger(__name__)

# scores captions of training images, given as tokens, from 0 to 10; a caption that breaks off scores less
Reward = Callable[[Int[Tensor, " batch"], Int[Tensor, "batch captions length"]], Float[Tensor, "batch captions"]]


class TextCiderD:
    """`CiderD` of captions that are decoded to texts, for which the host waits for the device of the tokens.

    Args:
        references: the raw captions of each training image, by its number.
    """

    def __init__(self, references: Mapping[int, Sequence[str]], vocabulary: VocabularyProtocol) -> None:
        self.cider = CiderD(references, end=True)
        self.vocabulary = vocabulary

    def __call__(
        self, images: Int[Tensor, " batch"], tokens: Int[Tensor, "batch captions length"]
    ) -> Float[Tensor, "batch captions"]:
        """Score captions."""
        scores = [
            [self.cider(index, self.vocabulary.decode(caption), EOS in caption) for caption in captions]
            for index, captions in zip(images.tolist(), tokens.tolist(), strict=True)
        ]
        return torch.tensor(scores, device=tokens.device)


def make_reward(references: Mapping[int, Sequence[str]], vocabulary: VocabularyProtocol) -> Reward:
    """Return CIDEr-D of captions: of their tokens if these are words, else of their texts.

    Args:
        references: the raw captions of each training image, by its number; all of them count as the corpus.
    """
    words = list_words(vocabulary)
    return TextCiderD(references, vocabulary) if words is None else TokenCiderD(references, words)


def list_words(vocabulary: VocabularyProtocol) -> list[list[str]] | None:
    """Return the words that caption scores find in each token, by id, with the word of the end for <eos>.

    None if the words of a caption are not those of its tokens, one after the other, as with characters and subwords.
    """
    if not isinstance(getattr(vocabulary, "tokenizer", None), LevelTokenizer):
        return None
    special = {PAD: [], SOS: [], EOS: [END]}
    for index, token in enumerate(vocabulary.tokens):
        if index in special:
            continue
        if vocabulary.join([token, token]) != f"{token} {token}":
            return None
        if not is_context_free(token):
            log.info("the processor computes the rewards: how scores split %r depends on what stands beside it", token)
            return None
    return [special.get(index, tokenize(token).split()) for index, token in enumerate(vocabulary.tokens)]
