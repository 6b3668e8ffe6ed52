"""Tokens to ids and back."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from attendgen.config.instantiate import get_first_line
from attendgen.text.normalizers import NORMALIZERS, PRINTABLE
from attendgen.text.protocol import Tokenizer, TrainableTokenizer, VocabularyProtocol
from attendgen.text.saved import add_default_targets, describe, restore
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.tokenizers import LevelTokenizer
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, write_json
from attendgen.utils.special_tokens import EOS, PAD, SOS, SPECIALS, UNKNOWN

# all tokens of characters that these normalizers leave
ALPHABETS = {"letters": tuple(" abcdefghijklmnopqrstuvwxyz"), "printable": tuple(PRINTABLE)}


class Vocabulary:
    """Tokens and their ids: <pad> 0, <sos> 1, <eos> 2, <unk> 3 (none with `normalizer: letters`), then the rest.

    Args:
        tokens: those after the special tokens, by id.
        level: "characters"; "words" (punctuation kept, exactly restored); "caption" (lower-case words only).
        normalizer: what happens to a text before it is split, one of `NORMALIZERS`.
        tokenizer: splits texts in place of the level's.

    Raises:
        UserError: there is no such level or normalizer, or a token occurs twice.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        level: str = "characters",
        normalizer: str = "none",
        tokenizer: Tokenizer | None = None,
    ) -> None:
        if normalizer not in NORMALIZERS:
            raise UserError(f"data.normalizer={normalizer}: unknown; choose one of {', '.join(NORMALIZERS)}")
        self.tokenizer = LevelTokenizer(level) if tokenizer is None else tokenizer
        self.normalizer = normalizer
        self.unknown = None if normalizer == "letters" else len(SPECIALS)
        self.specials = SPECIALS if self.unknown is None else (*SPECIALS, UNKNOWN)
        self.tokens: Sequence[str] = (*self.specials, *tokens)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        # a text that spells <eos> does not end there, and <pad> in it is not left out
        self.known = {token: index for token, index in self.ids.items() if index > EOS}
        if len(self.ids) != len(self.tokens):
            repeated = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise UserError(f"tokens: {repeated[0]!r} occurs twice; keep one of them")

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        level: str = "characters",
        normalizer: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> "Vocabulary":
        """Build the vocabulary of texts, frequent tokens first; those rarer than `min_frequency` become <unk>.

        A `TrainableTokenizer` is trained on the texts first.
        """
        empty = cls((), level, normalizer, tokenizer)
        if isinstance(tokenizer, TrainableTokenizer):
            texts = [empty.normalize(text) for text in texts]
            tokenizer = tokenizer.train(texts)
            counts = Counter(chain.from_iterable(map(tokenizer.split, texts)))
        else:
            counts = Counter(chain.from_iterable(map(empty.split, texts)))
        return cls.from_counts(counts, level, normalizer, min_frequency, max_size, tokenizer)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        level: str = "characters",
        normalizer: str = "none",
        min_frequency: int = 1,
        max_size: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> "Vocabulary":
        """Build a vocabulary from counts, frequent tokens first; a normalizer to few letters has all of them.

        Raises:
            UserError: there are tokens, but each is rarer than `min_frequency`.
        """
        empty = cls((), level, normalizer, tokenizer)
        if empty.is_by_character and normalizer in ALPHABETS:
            return cls(ALPHABETS[normalizer], level, normalizer, tokenizer)
        closed: Sequence[str] | None = getattr(tokenizer, "tokens", None)
        if closed is not None:
            kept = [token for token in closed if token not in empty.ids]
            kept.sort(key=lambda token: -counts.get(token, 0))
            return cls(kept, level, normalizer, tokenizer)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [token for token, count in ranked if count >= min_frequency and token not in empty.ids]
        if ranked and ranked[0][1] < min_frequency:
            token, count = ranked[0]
            raise UserError(
                f"data.min_frequency={min_frequency}: no token of the training texts is as frequent; the most "
                f"frequent one, {token!r}, occurs {count} times; lower it"
            )
        return cls(kept[:max_size], level, normalizer, tokenizer)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_by_character(self) -> bool:
        """Whether the tokens are characters."""
        return isinstance(self.tokenizer, LevelTokenizer) and self.tokenizer.level == "characters"

    def suppressed(self, eos: bool = False) -> tuple[int, ...]:
        """Return the ids that no output may hold: <pad>, <sos> and <unk>, and <eos> for texts without an end."""
        ids = (PAD, SOS) if self.unknown is None else (PAD, SOS, self.unknown)
        return (*ids, EOS) if eos else ids

    def normalize(self, text: str) -> str:
        """Return a text as the vocabulary sees it."""
        return NORMALIZERS[self.normalizer](text)

    def spell(self, text: str) -> str:
        """Return a text as outputs are spelled: normalized, and without the marks of pieces."""
        tokenizer = self.tokenizer
        is_joined = isinstance(tokenizer, LevelTokenizer) and tokenizer.level == "pretokenized"
        return self.join(self.split(text)) if is_joined else self.normalize(text)

    def split(self, text: str) -> list[str]:
        """Return a text's tokens, known or not."""
        return self.tokenizer.split(self.normalize(text))

    def encode(self, text: str) -> list[int]:
        """Return a text's ids without <sos> and <eos>; unknown tokens are <unk>, or dropped if there is no <unk>.

        So are <pad>, <sos> and <eos> that a text spells.
        """
        ids, unknown = self.known, self.unknown
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
            raise UserError(
                f"{field}: {text!r} has only {self.tokenizer.unit} that the model has never seen; "
                "write it as the training texts are written"
            )
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
        return self.tokenizer.join(tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, up to the first <eos>."""
        return self.join(self.to_tokens(ids))

    def sizes(self) -> dict[str, int]:
        """Return what a model's constructor must know of the vocabulary."""
        return {"vocab_size": len(self)}

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the vocabulary again, as plain data."""
        tokenizer = self.tokenizer
        named = tokenizer.to_dict() if isinstance(tokenizer, LevelTokenizer) else {"tokenizer": describe(tokenizer)}
        return {**named, "normalizer": self.normalizer, "tokens": list(self.tokens[len(self.specials) :])}


class PairVocabulary:
    """The vocabularies of a source and a target."""

    def __init__(self, source: VocabularyProtocol, target: VocabularyProtocol) -> None:
        self.source = source
        self.target = target

    def sizes(self) -> dict[str, int]:
        """Return what a model's constructor must know of the vocabulary."""
        return {"source_vocab_size": len(self.source), "target_vocab_size": len(self.target)}

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the vocabularies again, as plain data."""
        return {"source": describe(self.source), "target": describe(self.target)}


AnyVocabulary = VocabularyProtocol | PairVocabulary | TableVocabulary
VocabularyKind = TypeVar("VocabularyKind", VocabularyProtocol, PairVocabulary, TableVocabulary)


def count_characters_of_tokens(vocabulary: VocabularyProtocol) -> list[int]:
    """Return the number of characters that each token stands for, by id; an unknown token counts as one."""
    lengths = [len(vocabulary.join([token])) for token in vocabulary.tokens]
    for index in (PAD, SOS, EOS):
        lengths[index] = 0
    if vocabulary.unknown is not None:
        lengths[vocabulary.unknown] = 1
    return lengths


def vocabulary_from_dict(data: Any, where: str | Path) -> AnyVocabulary:
    """Make a vocabulary from the plain data of `describe`, read at `where`.

    Raises:
        UserError: a field is missing or of the wrong kind, or a class is not one that a saved run may make.
    """
    try:
        vocabulary = restore(add_default_targets(data), where)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{where}: not a vocabulary: {get_first_line(error)} is missing or wrong; copy it again"
        ) from error
    if not isinstance(vocabulary, PairVocabulary | TableVocabulary | VocabularyProtocol):
        raise UserError(
            f"{where}: not a vocabulary: {type(vocabulary).__name__} lacks methods of one; see VocabularyProtocol"
        )
    return vocabulary


def save_vocabulary(vocabulary: AnyVocabulary, path: str | Path) -> None:
    """Write a vocabulary as JSON."""
    write_json(path, describe(vocabulary))


def load_vocabulary(path: str | Path) -> AnyVocabulary:
    """Read a vocabulary from JSON.

    Raises:
        UserError: the file is missing, broken, not a vocabulary, or names a class that a saved run may not make.
    """
    return vocabulary_from_dict(read_json(path), path)
