"""Splitting of texts into characters, words, or the words of captions."""

import re
from collections.abc import Callable, Iterable
from typing import Literal

Level = Literal["characters", "words", "caption"]

JOINER = "￭"  # marks the side on which a punctuation mark touches its neighbor


def split_words(text: str) -> list[str]:
    """Split into words and punctuation marks, losslessly up to white space: `l'eau.` -> l ￭'￭ eau ￭."""
    words: list[str] = []
    end = -1
    for match in re.finditer(r"\w+|[^\w\s]", text):
        word = match.group()
        mark = not (word[0].isalnum() or word[0] == "_")
        if match.start() == end:
            if mark:
                word = JOINER + word
            else:
                words[-1] += JOINER
        words.append(word)
        end = match.end()
    return words


def join_words(words: Iterable[str]) -> str:
    """Invert `split_words`."""
    text = " ".join(words)
    return re.sub(f" ?{JOINER} ?", "", text)


def split_caption(text: str) -> list[str]:
    """Split into lower-case words without punctuation, as captions are scored; words keep apostrophes and hyphens."""
    text = text.lower()
    bare = text.rstrip(" .")
    if bare.isascii() and bare.replace(" ", "").isalnum():  # most captions; the same, several times as fast
        return bare.split()
    return re.findall(r"['’]?\w+(?:[-'’]\w+)*", text)


SPLITTERS: dict[str, Callable[[str], list[str]]] = {
    "characters": list,
    "words": split_words,
    "caption": split_caption,
}
