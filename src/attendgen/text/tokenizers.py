"""Splitting of texts into characters, words, or the words of captions."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from attendgen.utils.errors import UserError

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


Splitter = Callable[[str], list[str]]
Joiner = Callable[[Iterable[str]], str]

LEVELS: dict[str, tuple[Splitter, Joiner]] = {
    "characters": (list, "".join),
    "words": (split_words, join_words),
    "caption": (split_caption, " ".join),
}


class LevelTokenizer:
    """Splits into characters, words (punctuation is kept) or the lower-case words of captions.

    Args:
        level: "characters", "words" or "caption".

    Raises:
        UserError: there is no such level.
    """

    def __init__(self, level: str) -> None:
        if level not in LEVELS:
            raise UserError(f"data.level={level}: unknown; choose one of {', '.join(LEVELS)}")
        self.level = level
        self.unit = "characters" if level == "characters" else "words"
        self._split, self._join = LEVELS[level]

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        return self._split(text)

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens."""
        return self._join(tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the level."""
        return {"level": self.level}
