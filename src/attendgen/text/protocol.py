"""The interfaces of tokenizers and vocabularies, for those of AttendGen and of the user's own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """Splits texts into tokens and joins tokens to texts.

    A tokenizer with an attribute `tokens`, a sequence of all that it can produce, determines the vocabulary: none of
    them is left out for being rare.

    Attributes:
        unit: what messages call its tokens, in the plural.
    """

    unit: str

    def split(self, text: str) -> list[str]:
        """Return the tokens of a normalized text; those of an unknown character are spelled as the text has them."""

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens; the text of some tokens begins with the text of the first of them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the tokenizer again, as plain data: dicts, lists, texts and numbers."""


@runtime_checkable
class TrainableTokenizer(Tokenizer, Protocol):
    """A tokenizer that is learnt from the training texts."""

    def train(self, texts: Sequence[str]) -> Tokenizer:
        """Return a tokenizer learnt from normalized texts; this one stays as it is."""


@runtime_checkable
class VocabularyProtocol(Protocol):
    """The tokens of a text and their ids; <pad> is 0, <sos> 1 and <eos> 2.

    Attributes:
        tokens: by id.
        unknown: the id of <unk>; None if unknown tokens are dropped.
        normalizer: the name that messages give to what `normalize` does.
    """

    tokens: Sequence[str]
    unknown: int | None
    normalizer: str

    def __len__(self) -> int: ...

    def suppressed(self, eos: bool = False) -> tuple[int, ...]:
        """Return the ids that no output may hold; with `eos`, also <eos>, for texts without an end."""

    def normalize(self, text: str) -> str:
        """Return a text as the vocabulary sees it."""

    def encode(self, text: str) -> list[int]:
        """Return a text's ids without <sos> and <eos>."""

    def encode_known(self, text: str, field: str) -> list[int]:
        """Return a text's ids, or raise a `UserError` that names the field if none is known."""

    def to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens up to the first <eos>, without <pad> and <sos>."""

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, up to the first <eos>."""

    def sizes(self) -> dict[str, int]:
        """Return the arguments of a model's constructor that depend on the vocabulary."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the vocabulary again, as plain data; see `attendgen.text.saved.describe`."""


@runtime_checkable
class SplittingVocabulary(VocabularyProtocol, Protocol):
    """A vocabulary that also gives the tokens of a text as they are spelled, whether it knows them or not."""

    @property
    def ids(self) -> Mapping[str, int]:
        """The id of each token."""

    def split(self, text: str) -> list[str]:
        """Return a text's tokens, known or not."""
