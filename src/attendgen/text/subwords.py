"""Subwords, learnt from the training texts by the `tokenizers` library: byte-pair encoding and a unigram model."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from attendgen.text.protocol import Tokenizer
from attendgen.utils.errors import UserError
from attendgen.utils.packages import require_packages
from attendgen.utils.special_tokens import SPECIALS, UNKNOWN

MARKER = "▁"  # stands for a space in a token, and a space in a token for a marker of the text, so that none is lost
SWAP = str.maketrans({" ": MARKER, MARKER: " "})
# no token holds more than one of these: a word or punctuation, each with the space before it, or white space
LETTERS = r"\p{L}\p{M}\p{N}_"
PIECES = rf"{MARKER}?[{LETTERS}]+|{MARKER}?[^\s{LETTERS}{MARKER}]+|{MARKER}+(?={MARKER})|{MARKER}|\s+"
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which is not UTF-8
DIGITS = 6  # of a score: the library adds in any order, which changes the last of sixteen
STEP = 1e-4  # between the scores that the library gives to rare characters


class SubwordTokenizer:
    """What both kinds share: training on texts, and splitting by a model of the library.

    A space is written as `▁` and belongs to the word after it; nothing is added to a text or left out of it, so that
    `join` restores every text exactly. A character that the training texts lack is an unknown token of its own.
    """

    unit = "characters"  # a subword is unknown only if it is a character that is

    def __init__(self, vocab_size: Any, min_frequency: int, tokens: Sequence[str] | None) -> None:
        if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or vocab_size < 1:
            raise UserError(f"data.vocab_size={vocab_size}: expected a whole number of tokens, such as 8000")
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency
        self.tokens = tokens

    @cached_property
    def library(self) -> Any:
        """The tokenizer of the library.

        Raises:
            UserError: the library is not installed.
        """
        tokenizers = import_library()
        model = tokenizers.Tokenizer(self._make_model(tokenizers.models))
        model.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PIECES), "isolated")
        return model

    def _make_model(self, models: Any) -> Any:
        raise NotImplementedError

    def split(self, text: str) -> list[str]:
        """Return a text's subwords; an unknown character is one."""
        known = self._known
        swapped = text.translate(SWAP)
        offsets = self.library.encode(SURROGATE.sub("\ufffd", swapped)).offsets
        found: list[str] = []
        for start, end in offsets:
            token = swapped[start:end]
            found += [token] if token in known else token  # several unknown characters can be one part
        return found

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.tokens or ())

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of subwords."""
        return "".join(tokens).translate(SWAP)

    def find_alphabet(self, texts: Sequence[str]) -> list[str]:
        """Return the characters of texts that occur at least `min_frequency` times, in order.

        Raises:
            UserError: there are more than the vocabulary can hold, or none.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        kept = sorted(c for c, count in counts.items() if count >= self.min_frequency and not SURROGATE.match(c))
        reserved = len(SPECIALS) + 1
        if len(kept) + reserved > self.vocab_size:
            raise UserError(
                f"data.vocab_size={self.vocab_size}: the training text has {len(kept)} different characters; give more "
                f"than {len(kept) + reserved}, or raise data.min_frequency"
            )
        if not kept:
            raise UserError("data.level: no character is left to learn subwords from; lower data.min_frequency")
        return kept

    def learn(self, texts: Iterable[str], make_trainer: str, **options: Any) -> dict[str, Any]:
        """Return the model that a trainer of the library learns from texts, as plain data."""
        tokenizers = import_library()
        swapped = [text.translate(SWAP) for text in texts]
        alphabet = self.find_alphabet(swapped)
        # a rare character ends the word: what stands on its two sides must not become one subword
        rare = re.compile(f"[^{re.escape(''.join(alphabet))}]")
        size = self.vocab_size - len(SPECIALS)
        trainer = getattr(tokenizers.trainers, make_trainer)(
            vocab_size=size, special_tokens=[UNKNOWN], initial_alphabet=alphabet, show_progress=False, **options
        )
        self.library.train_from_iterator((part for text in swapped for part in rare.split(text) if part), trainer)
        learnt: dict[str, Any] = json.loads(self.library.to_str())["model"]
        return {"alphabet": alphabet, **learnt}


class BPETokenizer(SubwordTokenizer):
    """Byte-pair encoding over characters (Sennrich et al. 2016, 3.2).

    Args:
        vocab_size: number of tokens to learn, the four special tokens included.
        min_frequency: characters that are rarer in the training texts become <unk>.
        alphabet, merges: what was learnt: characters, and the pairs that are merged, in order.

    Raises:
        UserError: the size is not a whole number from 1.
    """

    def __init__(
        self,
        vocab_size: Any,
        min_frequency: int = 1,
        alphabet: Sequence[str] = (),
        merges: Sequence[Sequence[str]] = (),
    ) -> None:
        self.alphabet = alphabet
        self.merges = [(left, right) for left, right in merges]
        tokens = list(dict.fromkeys([*alphabet, *(left + right for left, right in self.merges)]))
        super().__init__(vocab_size, min_frequency, tokens or None)

    def _make_model(self, models: Any) -> Any:
        ids = {token: index for index, token in enumerate([UNKNOWN, *(self.tokens or ())])}
        return models.BPE(vocab=ids, merges=self.merges, unk_token=UNKNOWN)

    def train(self, texts: Sequence[str]) -> Tokenizer:
        """Return a tokenizer with the merges of texts.

        Raises:
            UserError: the library is not installed, or the texts have more characters than the vocabulary can hold.
        """
        fresh = BPETokenizer(self.vocab_size, self.min_frequency)
        learnt = fresh.learn(texts, "BpeTrainer")
        return BPETokenizer(self.vocab_size, self.min_frequency, learnt["alphabet"], learnt["merges"])

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            "vocab_size": self.vocab_size,
            "min_frequency": self.min_frequency,
            "alphabet": list(self.alphabet),
            "merges": [list(pair) for pair in self.merges],
        }


class UnigramTokenizer(SubwordTokenizer):
    """The most probable segmentation under a unigram model of subwords (Kudo 2018, 3.2).

    Args:
        vocab_size: greatest number of tokens to learn, the four special tokens included.
        min_frequency: characters that are rarer in the training texts become <unk>.
        pieces: what was learnt: subwords and their log-probabilities.

    Raises:
        UserError: the size is not a whole number from 1.
    """

    def __init__(self, vocab_size: int, min_frequency: int = 1, pieces: Sequence[Sequence[str | float]] = ()) -> None:
        self.pieces = [(str(piece), float(score)) for piece, score in pieces]
        super().__init__(vocab_size, min_frequency, [piece for piece, _ in self.pieces] or None)

    def _make_model(self, models: Any) -> Any:
        return models.Unigram([(UNKNOWN, 0.0), *self.pieces], unk_id=0, byte_fallback=False)

    def train(self, texts: Sequence[str]) -> Tokenizer:
        """Return a tokenizer with the unigram model of texts.

        Raises:
            UserError: the library is not installed, or the texts have more characters than the vocabulary can hold.
        """
        fresh = UnigramTokenizer(self.vocab_size, self.min_frequency)
        learnt = fresh.learn(texts, "UnigramTrainer", unk_token=UNKNOWN)
        scored = {piece: round(score, DIGITS) for piece, score in learnt["vocab"] if piece != UNKNOWN}
        lowest = min(scored.values(), default=0.0)
        # the library gives characters that it has no other piece for the lowest scores, one after the other at random
        margin = lowest + STEP * (len(learnt["alphabet"]) + 1)
        rare = {c for c in learnt["alphabet"] if scored.get(c, lowest) <= margin}
        scored |= dict.fromkeys(rare, lowest)
        pieces = sorted(scored.items(), key=lambda pair: (-pair[1], pair[0]))
        return UnigramTokenizer(self.vocab_size, self.min_frequency, pieces)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            "vocab_size": self.vocab_size,
            "min_frequency": self.min_frequency,
            "pieces": [list(pair) for pair in self.pieces],
        }


def import_library() -> Any:
    """Import the `tokenizers` library.

    Raises:
        UserError: it is not installed.
    """
    require_packages({"tokenizers": "subwords"})
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of a data loader
    import tokenizers

    return tokenizers
