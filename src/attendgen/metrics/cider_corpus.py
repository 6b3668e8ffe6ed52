"""Tables of a corpus of reference captions, from which CIDEr-D is computed in tensors."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attendgen.metrics.cider import END, ORDERS
from attendgen.metrics.tokenization import tokenize

LARGEST = np.iinfo(np.int64).max

Integers = NDArray[np.integer]


class CorpusTables(NamedTuple):
    """The n-grams of all references, which follow each other word by word; an n-gram stands where its first word does.

    Words are numbered from 1; 0 is none. The n-grams of an order are numbered from 0, in the order of their keys. The
    key of an n-gram is the number of the (n-1)-gram that it begins with, times the number of words, plus its last word.

    Attributes:
        words: of each token of the vocabulary.
        keys: of each order's n-grams; the last one is greater than every key.
        weights: inverse document frequency of each order's n-grams; the last one is that of an unknown n-gram.
        grams: the number of each order's n-gram at each position; the last position has none.
        counts: how often the n-gram occurs in its reference.
        shares: the square of its weight, divided by the norm of its reference.
        bigrams: the number of bigrams of the reference.
        bounds: where the references of each image begin, and the end of the last one.
        references: of each image.
        word_number: the number of words, and one more.
    """

    words: Int[Tensor, "vocab most"]
    keys: tuple[Int[Tensor, " _ngrams"], ...]
    weights: tuple[Float[Tensor, " _ngrams"], ...]
    grams: Int[Tensor, "orders positions"]
    counts: Int[Tensor, "orders positions"]
    shares: Float[Tensor, "orders positions"]
    bigrams: Int[Tensor, " positions"]
    bounds: Int[Tensor, " _bounds"]
    references: Int[Tensor, " images"]
    word_number: Int[Tensor, ""]


class _Positions(NamedTuple):
    """The number, the reference and the image of every word, and how many words of the reference are left from it."""

    words: Integers
    references: Integers
    images: Integers
    left: Integers


class _Columns(NamedTuple):
    """The columns of `CorpusTables` that are filled order by order."""

    grams: NDArray[np.int32]
    counts: NDArray[np.int16]
    shares: NDArray[np.float32]


def build_tables(references: Mapping[int, Sequence[str]], words: Sequence[Sequence[str]]) -> CorpusTables:
    """Return the tables of a corpus.

    Args:
        references: the raw captions of each image, by its number from 0; their end counts as a word.
        words: those that each token of the vocabulary stands for, by its id.
    """
    numbers: dict[str, int] = defaultdict(count(1).__next__)
    found, lengths = array("i"), array("i")
    captions = [references.get(image, ()) for image in range(max(references, default=-1) + 1)]
    for caption in chain.from_iterable(captions):
        tokens = [*tokenize(caption).split(), END]
        found.extend(map(numbers.__getitem__, tokens))
        lengths.append(len(tokens))
    most = max(map(len, words), default=0)
    table = [[*map(numbers.__getitem__, each), *[0] * (most - len(each))] for each in words]
    each_image = np.array([len(texts) for texts in captions], dtype=np.int64)
    positions, bounds = _locate(np.asarray(found), np.asarray(lengths), each_image)
    shape = ORDERS, len(found) + 1
    columns = _Columns(np.empty(shape, np.int32), np.zeros(shape, np.int16), np.zeros(shape, np.float32))
    log_images = np.log(max(len(references), 1))
    keys, weights = zip(*_fill(columns, positions, len(numbers) + 1, len(lengths), log_images), strict=True)
    bigrams = np.zeros(len(found) + 1, np.int16)
    bigrams[:-1] = (np.asarray(lengths) - 1)[positions.references]
    return CorpusTables(
        torch.tensor(table, dtype=torch.long).view(len(words), most),
        tuple(map(torch.from_numpy, keys)),
        tuple(map(torch.from_numpy, weights)),
        torch.from_numpy(columns.grams),
        torch.from_numpy(columns.counts),
        torch.from_numpy(columns.shares),
        torch.from_numpy(bigrams),
        torch.from_numpy(bounds),
        torch.from_numpy(each_image),
        torch.tensor(len(numbers) + 1),
    )


def _locate(words: Integers, lengths: Integers, each_image: Integers) -> tuple[_Positions, Integers]:
    """Return where each word stands, and where the references of each image begin and the last one's end."""
    ends = lengths.cumsum(dtype=np.int32)
    references = np.arange(len(lengths), dtype=np.int32).repeat(lengths)
    images = np.arange(len(each_image), dtype=np.int32).repeat(each_image)[references]
    left = ends[references] - np.arange(len(words), dtype=np.int32)
    bounds = np.append(0, ends)[np.append(0, each_image.cumsum())]
    return _Positions(words, references, images, left), bounds.astype(np.int64)


def _fill(
    columns: _Columns, positions: _Positions, words: int, references: int, log_images: float
) -> Iterator[tuple[Integers, NDArray[np.float32]]]:
    """Fill the columns of each order of n-grams, and yield the order's keys and weights.

    Args:
        words: the number of words, and one more.
        references: their number.
    """
    grams = np.zeros(len(positions.words), dtype=np.int64)
    for order in range(ORDERS):
        places = np.flatnonzero(positions.left > order)  # of whole n-grams
        keys = grams[places] * words + positions.words[places + order]
        # a stable order: n-grams of the same reference and of the same image remain neighbors
        by_key = keys.argsort(kind="stable")
        keys, places = keys[by_key], places[by_key]
        is_new = _differs(keys)
        keys, numbers = keys[is_new], is_new.cumsum() - 1
        documents = np.bincount(numbers[is_new | _differs(positions.images[places])], minlength=len(keys))
        weights = log_images - np.log(np.maximum(1, np.append(documents, 0)))
        squares = weights[numbers] ** 2
        reference = positions.references[places]
        runs = (is_new | _differs(reference)).cumsum() - 1
        counts = np.bincount(runs)[runs]
        # each position of an n-gram adds its count times the squared weight
        norms = np.sqrt(np.bincount(reference, counts * squares, minlength=references))[reference]
        grams[:] = len(keys)
        grams[places] = numbers
        columns.grams[order, :-1], columns.grams[order, -1] = grams, len(keys)
        columns.counts[order, places] = counts
        columns.shares[order, places] = np.divide(squares, norms, out=np.zeros_like(norms), where=norms > 0)
        yield np.append(keys, LARGEST), weights.astype(np.float32)


def _differs(values: Integers) -> NDArray[np.bool_]:
    """Return whether each value differs from the one before; the first one does."""
    differs = np.ones(len(values), dtype=bool)
    differs[1:] = values[1:] != values[:-1]
    return differs
