"""Splitting of texts into characters, words, or the words of captions."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from attendgen.utils.errors import UserError
from attendgen.utils.scripts import UNSPACED, compile_tokens, split_caption_words

CONTINUED = "@@"  # subword-nmt's mark at the end of a piece that the next one continues
SPACE = "▁"  # SentencePiece's mark of a blank
JOINER = "￭"  # marks the side on which a punctuation mark touches its neighbor


def split_words(text: str) -> list[str]:
    """Split into words and punctuation marks, losslessly up to white space: `l'eau.` -> l ￭'￭ eau ￭.

    Marks belong to the letter before them. In scripts without blanks, each letter is a word.
    """
    words: list[str] = []
    end = -1
    pattern = re.compile(r"\w+|[^\w\s]") if text.isascii() else compile_tokens("word|symbol")
    for match in pattern.finditer(text):
        word = match.group()
        mark = not (word[0].isalnum() or word[0] == "_") or UNSPACED.match(word) is not None
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
    """Split into lower-case words without punctuation, as captions are scored; words keep apostrophes and hyphens.

    Marks belong to the letter before them. In scripts without blanks, each letter is a word.
    """
    text = text.lower()
    bare = text.rstrip(" .")
    if bare.isascii() and bare.replace(" ", "").isalnum():  # most captions; the same, several times as fast
        return bare.split()
    if text.isascii():
        return re.findall(r"['’]?\w+(?:[-'’]\w+)*", text)
    return split_caption_words(text)


def join_caption(words: Iterable[str]) -> str:
    """Join the words of a caption, without blanks between letters of scripts that have none."""
    joined = before = ""
    for word in words:
        glued = before and UNSPACED.match(word) and UNSPACED.match(before)
        joined += word if glued or not before else f" {word}"
        before = word
    return joined


def join_pretokenized(tokens: Iterable[str]) -> str:
    """Join tokens of another program: `ho@@ mme` is homme; SentencePiece's marks, if there are any, are blanks."""
    pieces = list(tokens)
    if any(SPACE in piece for piece in pieces):
        return "".join(pieces).replace(SPACE, " ").strip()
    return "".join(piece[: -len(CONTINUED)] if piece.endswith(CONTINUED) else f"{piece} " for piece in pieces).rstrip()


Splitter = Callable[[str], list[str]]
Joiner = Callable[[Iterable[str]], str]

LEVELS: dict[str, tuple[Splitter, Joiner]] = {
    "characters": (list, "".join),
    "words": (split_words, join_words),
    "caption": (split_caption, join_caption),
    "pretokenized": (str.split, join_pretokenized),
}


class LevelTokenizer:
    """Splits into characters, words (punctuation is kept), the lower-case words of captions, or at blanks alone.

    Args:
        level: "characters", "words", "caption", or "pretokenized", for texts that another program has split.

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
