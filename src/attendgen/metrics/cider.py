"""CIDEr-D of single captions against a fixed corpus, fast enough for a reward in training."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jaxtyping import Int
from torch import Tensor

from attendgen.metrics.tokenization import tokenize

Number = TypeVar("Number", float, Tensor)
Grams = Counter[tuple[str, ...]]

ORDERS = 4
SIGMA = 6.0
END = "<eos>"


def compare_lengths(difference: Number) -> Number:
    """Return the factor exp(-d^2 / (2 sigma^2)) of a difference of lengths, a number or a tensor."""
    return math.e ** (-(difference**2) / (2 * SIGMA**2))


def count_repeats(rows: Int[Tensor, "*_rows _length"]) -> Iterator[Int[Tensor, "*_rows _positions"]]:
    """Yield, for each order of n-grams, how often the n-gram at each position occurs in its row."""
    equal = rows.unsqueeze(-1) == rows.unsqueeze(-2)
    same = equal
    for order in range(ORDERS):
        positions = rows.size(-1) - order
        same = same[..., :positions, :positions] & equal[..., order:, order:]
        yield same.sum(dim=-1)


class TfIdfVector(NamedTuple):
    """A caption's tf-idf weights and their norm for each order of n-grams, and its number of bigrams."""

    weights: list[dict[tuple[str, ...], float]]
    norms: list[float]
    bigrams: int


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, 5) with the document frequencies of these references, as coco-caption computes it.

    Args:
        references: the raw captions of each image; all of them count as the corpus.
        end: count the end of a caption as a word; otherwise captions that break off earn the reward, too.
    """

    def __init__(self, references: Mapping[Any, Sequence[str]], end: bool = False) -> None:
        self.end = end
        grams = {key: [_grams(caption, end) for caption in captions] for key, captions in references.items()}
        # the number of images with a caption that holds the n-gram
        self.frequency = Counter(gram for captions in grams.values() for gram in set().union(*captions))
        self.log_images = math.log(max(len(grams), 1))
        self.references = {key: [self._weigh(caption) for caption in captions] for key, captions in grams.items()}

    def __call__(self, key: Hashable, caption: str, ended: bool = True) -> float:
        """Score a raw caption for an image of the corpus, from 0 to 10.

        Args:
            ended: whether the caption ended with <eos>, and not at the maximum length.
        """
        candidate, references = self._weigh(_grams(caption, self.end and ended)), self.references[key]
        return 10 * sum(_similarity(candidate, reference) for reference in references) / len(references)

    def _weigh(self, grams: Grams) -> TfIdfVector:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
        for gram, count in grams.items():
            weights[len(gram) - 1][gram] = count * (self.log_images - math.log(max(1, self.frequency[gram])))
        norms = [math.sqrt(sum(weight**2 for weight in order.values())) for order in weights]
        return TfIdfVector(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _grams(caption: str, end: bool) -> Grams:
    words = [*tokenize(caption).split(), *[END] * end]
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def _similarity(candidate: TfIdfVector, reference: TfIdfVector) -> float:
    """Return the mean over n-gram sizes of the clipped cosine, less for a different length."""
    total = 0.0
    for one, other, norm, other_norm in zip(
        candidate.weights, reference.weights, candidate.norms, reference.norms, strict=True
    ):
        if norm and other_norm:
            shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in one.items() if gram in other)
            total += shared / (norm * other_norm)
    return total / ORDERS * compare_lengths(float(candidate.bigrams - reference.bigrams))
