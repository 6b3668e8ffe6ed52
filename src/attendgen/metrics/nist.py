"""NIST: n-gram matches weighed by how much they say (Doddington 2002)."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from attendgen.metrics.text import require_references

Gram = tuple[str, ...]

HALVING = 2 / 3  # the ratio of the lengths of outputs and references at which the length penalty is 1/2

ENTITIES = {"&quot;": '"', "&lt;": "<", "&gt;": ">", "&amp;": "&"}
# in this order; letters and hyphens in words stay together, and so do points and commas in numbers
SPLITS = [
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def split_words(text: str) -> list[str]:
    """Return the lower-case words of a text as NIST's program mteval-13a splits them."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    text = f" {text.lower()} "
    for pattern, replacement in SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


class NistScorer:
    """Compares outputs with these references, whose n-gram counts are made once.

    The information of an n-gram is log2(count of its first n - 1 words / count of all n) in all references.

    Args:
        references: the texts that each output is compared with; at least one for each.
        order: the length of the longest n-grams.
    """

    def __init__(self, references: Sequence[Sequence[str]], order: int = 5) -> None:
        self.order = order
        self.limits: list[Counter[Gram]] = []  # of each input: the largest count of an n-gram in a reference
        self.lengths: list[float] = []
        counts: Counter[Gram] = Counter()
        words = 0
        for texts in references:
            split = [split_words(text) for text in texts]
            found = [self.count_grams(each) for each in split]
            limit: Counter[Gram] = Counter()
            for each in found:
                counts.update(each)
                limit |= each
            total = sum(map(len, split))
            words += total
            self.limits.append(limit)
            self.lengths.append(total / len(split))
        counts[()] = words
        self.information = {gram: math.log2(counts[gram[:-1]] / count) for gram, count in counts.items() if gram}

    def count_grams(self, words: Sequence[str]) -> Counter[Gram]:
        """Return the counts of the n-grams of all orders."""
        return Counter(tuple(words[i : i + n]) for n in range(1, self.order + 1) for i in range(len(words) - n + 1))

    def count(self, index: int, output: str) -> list[float]:
        """Return numbers of an output, whose sum over outputs `score` needs.

        They are the information of the matched n-grams and the number of n-grams, each by order; the number of words;
        and the mean length of the references.

        Args:
            index: of the output's references.
        """
        words = split_words(output)
        limit = self.limits[index]
        matched = [0.0] * self.order
        for gram, count in self.count_grams(words).items():
            if gram in limit:
                matched[len(gram) - 1] += min(count, limit[gram]) * self.information[gram]
        numbers = [max(0, len(words) - n) for n in range(self.order)]
        return [*matched, *map(float, numbers), float(len(words)), self.lengths[index]]

    def score(self, total: Float[np.ndarray, " numbers"]) -> float:
        """Return NIST from the sum of the numbers of outputs (Doddington 2002, equation 3)."""
        *counts, length, wanted = total.tolist()
        pairs = zip(counts[: self.order], counts[self.order :], strict=True)
        precision = sum(matched / number for matched, number in pairs if number)
        if not length or not wanted:
            return 0.0
        ratio = min(1.0, length / wanted)
        return precision * math.exp(math.log(0.5) * (math.log(ratio) / math.log(HALVING)) ** 2)


class Nist:
    """NIST over a corpus, without case, as mteval-13a computes it; without an upper bound.

    Args:
        name: of the score.
        order: the length of the longest n-grams.
    """

    packages: ClassVar[Mapping[str, str]] = {}

    def __init__(self, name: str = "nist", order: int = 5) -> None:
        self.name = name
        self.order = order

    def __call__(self, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the score.

        Raises:
            UserError: there are no outputs, the numbers differ, or an output has no reference.
        """
        require_references(outputs, references)
        scorer = NistScorer(references, self.order)
        counts = [scorer.count(index, output) for index, output in enumerate(outputs)]
        return {self.name: scorer.score(np.array(counts).sum(axis=0))}
