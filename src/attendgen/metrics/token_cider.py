"""CIDEr-D of captions that are given as tokens, computed on their device."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.layers.state import map_tensors
from attendgen.metrics.cider import ORDERS, compare_lengths, count_repeats
from attendgen.metrics.cider_corpus import build_tables
from attendgen.utils.special_tokens import EOS, PAD


class _References(NamedTuple):
    """The rows of `CorpusTables` that belong to the references of each image of a batch, padded with the last one."""

    grams: Int[Tensor, "orders batch positions"]
    counts: Int[Tensor, "orders batch positions"]
    shares: Float[Tensor, "orders batch positions"]
    bigrams: Int[Tensor, "batch positions"]
    number: Int[Tensor, " batch"]


class TokenCiderD:
    """`CiderD(references, end=True)` of captions that are given as tokens.

    The host does not wait for the device of the tokens, to which the tables of the references are moved once.

    Args:
        references: the raw captions of each image, by its number from 0; all of them count as the corpus.
        words: those that each token stands for, by its id; <eos> stands for the end that counts as a word, <pad> and
            <sos> for none.
    """

    def __init__(self, references: Mapping[int, Sequence[str]], words: Sequence[Sequence[str]]) -> None:
        self._tables = build_tables(references, words)
        self._longest = int(self._tables.bounds.diff().max()) if references else 0

    def __call__(
        self, images: Int[Tensor, " batch"], tokens: Int[Tensor, "batch captions length"]
    ) -> Float[Tensor, "batch captions"]:
        """Score captions of images of the corpus, from 0 to 10."""
        if tokens.device != self._tables.words.device:
            self._tables = map_tensors(lambda part: part.to(tokens.device, non_blocking=True), self._tables)
        words = self._list_words(tokens)
        theirs = self._find_references(images.to(tokens.device, non_blocking=True))
        lengths = (words > 0).sum(dim=2)
        cosines = torch.zeros((), device=tokens.device)
        for order, (grams, repeats) in enumerate(zip(self._number(words), count_repeats(words), strict=True)):
            is_whole = words[..., order:] > 0
            squares = self._tables.weights[order][grams].square() * is_whole
            # each position of an n-gram adds its count times the squared weight
            norms = (squares * repeats).sum(dim=2).sqrt()
            is_shared = grams.int().unsqueeze(3) == theirs.grams[order].unsqueeze(1).unsqueeze(2)
            clipped = torch.minimum(is_shared.sum(dim=2), theirs.counts[order].unsqueeze(1))
            # the position's part of the clipped cosine, for each candidate and each position of a reference
            products = clipped * theirs.shares[order].unsqueeze(1)
            cosines = cosines + products / norms.clamp_min(torch.finfo(norms.dtype).tiny).unsqueeze(2)
        bigrams = lengths.unsqueeze(2) - 1
        similarities = cosines * compare_lengths((bigrams - theirs.bigrams.unsqueeze(1)).float())
        return similarities.sum(dim=2) * (10 / ORDERS) / theirs.number.clamp(min=1).unsqueeze(1)

    def _list_words(self, tokens: Int[Tensor, "batch captions length"]) -> Int[Tensor, "batch captions words"]:
        """Return the numbers of the words of captions up to their end, followed by zeros."""
        is_end = (tokens == EOS).long()
        is_over = is_end.cumsum(dim=2) > is_end
        words = self._tables.words[tokens.masked_fill(is_over, PAD)].flatten(2)
        is_word = words > 0
        # words move to the left, all else to a last column that is dropped
        width = words.size(2)
        places = torch.where(is_word, is_word.cumsum(dim=2) - 1, width)
        moved = words.new_zeros(*words.shape[:2], width + 1).scatter(2, places, words)[..., :width]
        if moved.device.type == "cpu" and moved.numel():
            moved = moved[..., : int(is_word.sum(dim=2).max())]
        return functional.pad(moved, (0, max(0, ORDERS - moved.size(2))))

    def _find_references(self, images: Int[Tensor, " batch"]) -> _References:
        tables = self._tables
        begins, ends = tables.bounds[images], tables.bounds[images + 1]
        longest = self._longest
        if images.device.type == "cpu" and len(images):  # a GPU is not asked
            longest = int((ends - begins).max())
        rows = begins.unsqueeze(1) + torch.arange(longest, device=images.device)
        rows = torch.where(rows < ends.unsqueeze(1), rows, len(tables.bigrams) - 1)
        grams, counts, shares = (part[:, rows] for part in (tables.grams, tables.counts, tables.shares))
        return _References(grams, counts, shares, tables.bigrams[rows], tables.references[images])

    def _number(self, words: Int[Tensor, "batch captions words"]) -> Iterator[Int[Tensor, "batch captions _positions"]]:
        """Yield the numbers of the n-grams of each order, see `CorpusTables`."""
        grams = torch.zeros_like(words)
        for order, known in enumerate(self._tables.keys):
            keys = grams[..., : words.size(2) - order] * self._tables.word_number + words[..., order:]
            places = torch.searchsorted(known, keys)
            grams = torch.where(known[places] == keys, places, len(known) - 1)
            yield grams
