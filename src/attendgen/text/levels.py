"""The tokenizer that a data module's settings ask for."""

from collections.abc import Sequence
from typing import Any

from attendgen.text.protocol import Tokenizer
from attendgen.text.subwords import BPETokenizer, UnigramTokenizer
from attendgen.text.tokenizers import LEVELS, LevelTokenizer
from attendgen.utils.errors import UserError

SUBWORDS = {"bpe": BPETokenizer, "unigram": UnigramTokenizer}


def make_tokenizer(
    level: str,
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
    min_frequency: int = 1,
    levels: Sequence[str] = tuple(LEVELS),
) -> Tokenizer:
    """Return a tokenizer of the user's own, or that of a level.

    Args:
        level: one of `levels`, "bpe" or "unigram".
        vocab_size: of subwords.
        min_frequency: characters that are rarer are not part of a subword.
        levels: those of the data beside subwords.

    Raises:
        UserError: there is no such level, its vocabulary has no size to set or lacks one, the object given is not a
            tokenizer, or `min_frequency` is not a whole number from 0.
    """
    _require_frequency(min_frequency)
    if tokenizer is not None:
        if not isinstance(tokenizer, Tokenizer):
            raise UserError(
                f"data.tokenizer: {type(tokenizer).__name__} is not a tokenizer; it needs unit, split(), join() and "
                "to_dict()"
            )
        if vocab_size is not None:
            raise UserError(f"data.vocab_size={vocab_size}: a setting of subwords; leave it out with data.tokenizer")
        return tokenizer
    if level in SUBWORDS:
        if vocab_size is None:
            raise UserError(f"data.level={level}: needs the number of subwords, such as data.vocab_size=8000")
        return SUBWORDS[level](vocab_size, min_frequency)
    if level not in levels:
        raise UserError(f"data.level={level}: unknown; choose one of {', '.join([*levels, *SUBWORDS])}")
    if vocab_size is not None:
        raise UserError(f"data.vocab_size={vocab_size}: a setting of subwords; leave it out with data.level={level}")
    return LevelTokenizer(level)


def _require_frequency(number: object) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise UserError(f"data.min_frequency={number}: expected a whole number from 0")


def split_sides(field: str, value: Any) -> tuple[Any, Any]:
    """Return the settings of source and target: one for both, or a list of two.

    Raises:
        UserError: a list has not two parts.
    """
    if not isinstance(value, list | tuple):
        return value, value
    if len(value) != 2:
        raise UserError(f"data.{field}: {len(value)} values; give one for both sides, or [source,target]")
    return value[0], value[1]
