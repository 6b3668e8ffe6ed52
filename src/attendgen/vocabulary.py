"""Characters or words to ids and back."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from attendgen.errors import UserError
from attendgen.files import read_json, write_json
from attendgen.transliteration import PRINTABLE, to_printable

PAD, SOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<sos>", "<eos>")
UNKNOWN = "<unk>"

Level = Literal["characters", "words", "caption"]


def _compose(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _fold(text: str) -> str:
    bare = (c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in bare).split())


def _letters(text: str) -> str:
    return re.sub("[^a-z ]", "", text.lower())


NORMALISERS: dict[str, Callable[[str], str]] = {
    "none": _compose,  # accents as single characters, nothing else changed
    "lower": lambda text: _compose(text).lower(),
    "fold": _fold,  # case, accents and punctuation ignored, white space collapsed
    "letters": _letters,  # a-z and space, everything else dropped
    "printable": to_printable,  # the 100 symbols of string.printable: accents folded, everything else dropped
}

JOINER = "￭"  # marks the side on which a punctuation mark touches its neighbour


def split_words(text: str) -> list[str]:
    """Words and punctuation marks, losslessly up to white space: `l'eau.` -> l ￭'￭ eau ￭."""
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
    """The inverse of `split_words`."""
    text = " ".join(words)
    return re.sub(f" ?{JOINER} ?", "", text)


def split_caption(text: str) -> list[str]:
    """Lower-case words without punctuation, as captions are scored; apostrophes and hyphens stay inside words."""
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


class Vocabulary:
    """Symbols and their ids: <pad> 0, <sos> 1, <eos> 2, <unk> 3 (none with `normalise: letters`), then the rest.

    Args:
        symbols: the symbols after the specials, by id.
        level: "characters"; "words" (punctuation kept, exactly restored); "caption" (lower-case words only).
        normalise: what happens to a text before it is split, one of `NORMALISERS`.
    """

    def __init__(self, symbols: Sequence[str], level: Level = "characters", normalise: str = "none") -> None:
        if level not in SPLITTERS:
            raise UserError(f"vocabulary.level={level}: unknown; choose one of {', '.join(SPLITTERS)}")
        if normalise not in NORMALISERS:
            raise UserError(f"vocabulary.normalise={normalise}: unknown; choose one of {', '.join(NORMALISERS)}")
        self.level: Level = level
        self.normalise = normalise
        self.unknown = None if normalise == "letters" else len(SPECIALS)
        self.specials = SPECIALS if self.unknown is None else (*SPECIALS, UNKNOWN)
        self.symbols = (*self.specials, *symbols)
        self.ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(self.ids) != len(self.symbols):
            twice = [symbol for symbol, count in Counter(self.symbols).items() if count > 1]
            raise UserError(f"vocabulary: {twice[0]!r} stands twice")

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        level: Level = "characters",
        normalise: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """The symbols of some texts, the most frequent first; those rarer than `min_frequency` become <unk>."""
        empty = cls((), level, normalise)
        counts: Counter[str] = Counter()
        counts.update(chain.from_iterable(map(empty.split, texts)))
        return cls.of_counts(counts, level, normalise, min_frequency, max_size)

    @classmethod
    def of_counts(
        cls,
        counts: Mapping[str, int],
        level: Level = "characters",
        normalise: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """The symbols that were counted, the most frequent first; normalisers to a few letters have them all."""
        if normalise == "letters" and level == "characters":
            return cls(tuple(" abcdefghijklmnopqrstuvwxyz"), level, normalise)
        if normalise == "printable" and level == "characters":
            return cls(tuple(PRINTABLE), level, normalise)
        empty = cls((), level, normalise)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [symbol for symbol, count in ranked if count >= min_frequency and symbol not in empty.ids]
        return cls(kept[:max_size], level, normalise)

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that no output may hold: <pad>, <sos> and <unk>."""
        return (PAD, SOS) if self.unknown is None else (PAD, SOS, self.unknown)

    def normalised(self, text: str) -> str:
        """A text as the vocabulary sees it."""
        return NORMALISERS[self.normalise](text)

    def split(self, text: str) -> list[str]:
        """A text's symbols, known or not."""
        return SPLITTERS[self.level](self.normalised(text))

    def encode(self, text: str) -> list[int]:
        """A text's ids without <sos> and <eos>; unknown symbols are <unk>, or dropped where there is none."""
        ids, unknown = self.ids, self.unknown
        if unknown is None:
            return [ids[symbol] for symbol in self.split(text) if symbol in ids]
        return [ids.get(symbol, unknown) for symbol in self.split(text)]

    def encode_known(self, text: str, field: str) -> list[int]:
        """A text's ids, of which at least one must be known.

        Raises:
            UserError: the text is empty or holds only unknown symbols.
        """
        ids = self.encode(text)
        if not text.strip():
            raise UserError(f"{field}: empty text; give at least one word")
        if all(index == self.unknown for index in ids):
            unit = "characters" if self.level == "characters" else "words"
            raise UserError(f"{field}: {text!r} has only {unit} that the model has never seen")
        return ids

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The symbols up to the first <eos>, without <pad> and <sos>."""
        tokens = []
        for index in ids:
            if index == EOS:
                break
            if index not in (PAD, SOS):
                tokens.append(self.symbols[index])
        return tokens

    def join(self, tokens: Iterable[str]) -> str:
        """Symbols as text."""
        if self.level == "characters":
            return "".join(tokens)
        return join_words(tokens) if self.level == "words" else " ".join(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids, up to the first <eos>."""
        return self.join(self.tokens(ids))

    def sizes(self) -> dict[str, int]:
        """What a model's constructor must know of it."""
        return {"symbols": len(self)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` makes the vocabulary again."""
        return {
            "level": self.level,
            "normalise": self.normalise,
            "symbols": list(self.symbols[len(self.specials) :]),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Vocabulary":
        return cls(data["symbols"], data["level"], data["normalise"])


class PairVocabulary:
    """The vocabularies of a source and a target."""

    def __init__(self, source: Vocabulary, target: Vocabulary) -> None:
        self.source = source
        self.target = target

    def sizes(self) -> dict[str, int]:
        """What a model's constructor must know of it."""
        return {"source_symbols": len(self.source), "target_symbols": len(self.target)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` makes the vocabularies again."""
        return {"source": self.source.to_dict(), "target": self.target.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PairVocabulary":
        return cls(Vocabulary.from_dict(data["source"]), Vocabulary.from_dict(data["target"]))


AnyVocabulary = Vocabulary | PairVocabulary


def vocabulary_from_dict(data: Any, where: str | Path) -> AnyVocabulary:
    """Either kind of vocabulary from plain data read at `where`.

    Raises:
        UserError: a field is missing or of the wrong kind.
    """
    try:
        return PairVocabulary.from_dict(data) if "source" in data else Vocabulary.from_dict(data)
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: not a vocabulary: field {error} is missing or wrong") from error


def save_vocabulary(vocabulary: AnyVocabulary, path: str | Path) -> None:
    """Write a vocabulary as JSON."""
    write_json(path, vocabulary.to_dict())


def load_vocabulary(path: str | Path) -> AnyVocabulary:
    """Read a vocabulary from JSON.

    Raises:
        UserError: the file is missing, broken, or no vocabulary.
    """
    return vocabulary_from_dict(read_json(path), path)
