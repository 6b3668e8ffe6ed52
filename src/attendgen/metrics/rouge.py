"""ROUGE-L as coco-caption computes it, fast enough for long texts (Lin 2004, section 3.2)."""

from collections.abc import Sequence

BETA = 1.2  # weight of recall, coco-caption's


def score_rouge_l(output: str, references: Sequence[str]) -> float:
    """Return the F-score of the longest common subsequences of an output with its references, from 0 to 1.

    Precision and recall are each the best over the references.

    Args:
        output: tokens with a blank between them, like the references.
        references: at least one.
    """
    words = output.split(" ")
    pairs = [(count_common(words, reference), len(reference)) for reference in (r.split(" ") for r in references)]
    precision = max(common / len(words) for common, _ in pairs)
    recall = max(common / length for common, length in pairs)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def count_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, with one bit per word (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(first)) - 1
    open_places = whole  # a bit is 0 where the subsequence grew
    for word in second:
        matched = open_places & places.get(word, 0)
        open_places = (open_places + matched | open_places - matched) & whole
    return len(first) - open_places.bit_count()
