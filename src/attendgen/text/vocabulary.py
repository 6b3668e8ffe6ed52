"""Characters or words to ids and back."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from attendgen.text.normalizers import NORMALIZERS, PRINTABLE
from attendgen.text.tokenizers import SPLITTERS, Level, join_words
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, write_json
from attendgen.utils.special_tokens import EOS, PAD, SOS, SPECIALS, UNKNOWN


class Vocabulary:
    """Tokens and their ids: <pad> 0, <sos> 1, <eos> 2, <unk> 3 (none with `normalizer: letters`), then the rest.

    Args:
        tokens: those after the special tokens, by id.
        level: "characters"; "words" (punctuation kept, exactly restored); "caption" (lower-case words only).
        normalizer: what happens to a text before it is split, one of `NORMALIZERS`.
    """

    def __init__(self, tokens: Sequence[str], level: Level = "characters", normalizer: str = "none") -> None:
        if level not in SPLITTERS:
            raise UserError(f"data.level={level}: unknown; choose one of {', '.join(SPLITTERS)}")
        if normalizer not in NORMALIZERS:
            raise UserError(f"data.normalizer={normalizer}: unknown; choose one of {', '.join(NORMALIZERS)}")
        self.level: Level = level
        self.normalizer = normalizer
        self.unknown = None if normalizer == "letters" else len(SPECIALS)
        self.specials = SPECIALS if self.unknown is None else (*SPECIALS, UNKNOWN)
        self.tokens = (*self.specials, *tokens)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            repeated = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise UserError(f"vocabulary: {repeated[0]!r} occurs twice")

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        level: Level = "characters",
        normalizer: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """Build the vocabulary of texts, frequent tokens first; those rarer than `min_frequency` become <unk>."""
        empty = cls((), level, normalizer)
        counts: Counter[str] = Counter()
        counts.update(chain.from_iterable(map(empty.split, texts)))
        return cls.from_counts(counts, level, normalizer, min_frequency, max_size)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        level: Level = "characters",
        normalizer: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """Build a vocabulary from counts, frequent tokens first; a normalizer to few letters has all of them."""
        if normalizer == "letters" and level == "characters":
            return cls(tuple(" abcdefghijklmnopqrstuvwxyz"), level, normalizer)
        if normalizer == "printable" and level == "characters":
            return cls(tuple(PRINTABLE), level, normalizer)
        empty = cls((), level, normalizer)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [token for token, count in ranked if count >= min_frequency and token not in empty.ids]
        return cls(kept[:max_size], level, normalizer)

    def __len__(self) -> int:
        return len(self.tokens)

    def suppressed(self, eos: bool = False) -> tuple[int, ...]:
        """Return the ids that no output may hold: <pad>, <sos> and <unk>, and <eos> for texts without an end."""
        ids = (PAD, SOS) if self.unknown is None else (PAD, SOS, self.unknown)
        return (*ids, EOS) if eos else ids

    def normalize(self, text: str) -> str:
        """Return a text as the vocabulary sees it."""
        return NORMALIZERS[self.normalizer](text)

    def split(self, text: str) -> list[str]:
        """Return a text's tokens, known or not."""
        return SPLITTERS[self.level](self.normalize(text))

    def encode(self, text: str) -> list[int]:
        """Return a text's ids without <sos> and <eos>; unknown tokens are <unk>, or dropped if there is no <unk>."""
        ids, unknown = self.ids, self.unknown
        if unknown is None:
            return [ids[token] for token in self.split(text) if token in ids]
        return [ids.get(token, unknown) for token in self.split(text)]

    def encode_known(self, text: str, field: str) -> list[int]:
        """Return a text's ids, of which at least one must be known.

        Raises:
            UserError: the text is empty or holds only unknown tokens.
        """
        ids = self.encode(text)
        if not text.strip():
            raise UserError(f"{field}: empty text; give at least one word")
        if all(index == self.unknown for index in ids):
            unit = "characters" if self.level == "characters" else "words"
            raise UserError(f"{field}: {text!r} has only {unit} that the model has never seen")
        return ids

    def to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens up to the first <eos>, without <pad> and <sos>."""
        tokens = []
        for index in ids:
            if index == EOS:
                break
            if index not in (PAD, SOS):
                tokens.append(self.tokens[index])
        return tokens

    def join(self, tokens: Iterable[str]) -> str:
        """Join tokens to a text."""
        if self.level == "characters":
            return "".join(tokens)
        return join_words(tokens) if self.level == "words" else " ".join(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, up to the first <eos>."""
        return self.join(self.to_tokens(ids))

    def sizes(self) -> dict[str, int]:
        """Return what a model's constructor must know of the vocabulary."""
        return {"vocab_size": len(self)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `from_dict` makes the vocabulary again."""
        return {
            "level": self.level,
            "normalizer": self.normalizer,
            "tokens": list(self.tokens[len(self.specials) :]),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Vocabulary":
        """Make a vocabulary from the data of `to_dict`."""
        return cls(data["tokens"], data["level"], data["normalizer"])


class PairVocabulary:
    """The vocabularies of a source and a target."""

    def __init__(self, source: Vocabulary, target: Vocabulary) -> None:
        self.source = source
        self.target = target

    def sizes(self) -> dict[str, int]:
        """Return what a model's constructor must know of the vocabulary."""
        return {"source_vocab_size": len(self.source), "target_vocab_size": len(self.target)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `from_dict` makes the vocabularies again."""
        return {"source": self.source.to_dict(), "target": self.target.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PairVocabulary":
        """Make vocabularies from the data of `to_dict`."""
        return cls(Vocabulary.from_dict(data["source"]), Vocabulary.from_dict(data["target"]))


AnyVocabulary = Vocabulary | PairVocabulary
VocabularyKind = TypeVar("VocabularyKind", Vocabulary, PairVocabulary)


def vocabulary_from_dict(data: Any, where: str | Path) -> AnyVocabulary:
    """Make either kind of vocabulary from plain data read at `where`.

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
        UserError: the file is missing, broken, or not a vocabulary.
    """
    return vocabulary_from_dict(read_json(path), path)
