"""Tokens are laid out as the text that their tokenizer joins, and words are found among them."""

import pytest

from attendgen.text.spelling import find_phrase, lay_out
from attendgen.text.tokenizers import LEVELS


@pytest.mark.parametrize("level", list(LEVELS))
def test_the_layout_is_the_text(level: str) -> None:
    split, join = LEVELS[level]
    tokens = split("l'eau est-elle froide (ou non) ?")
    assert "".join(gap + piece for gap, piece in lay_out(tokens)) == join(tokens)


def test_subwords_and_the_end_are_laid_out() -> None:
    assert lay_out(["un", "▁chi", "en", "▁", "<eos>"]) == [
        ("", "un"),
        (" ", "chi"),
        ("", "en"),
        ("", " "),
        ("", "<eos>"),
    ]
    assert lay_out(["a", "dog", "<eos>"]) == [("", "a"), (" ", "dog"), (" ", "<eos>")]
    assert lay_out(["a", "a", "<eos>"], "a a") == [("", "a"), (" ", "a"), (" ", "<eos>")]
    assert lay_out(["a", "a"], "aa") == lay_out(["a", "a"]) == [("", "a"), ("", "a")]
    assert lay_out([]) == []


def test_words_and_phrases_are_found_whole() -> None:
    assert find_phrase(["a", "dog", "and", "a", "hot", "dog"], "Dog") == [range(1, 2), range(5, 6)]
    assert find_phrase(["a", "fire", "hydrant"], "fire  hydrant") == [range(1, 3)]
    assert find_phrase([*"ein Hund, Hunde", "<eos>"], "hund") == [range(4, 8)]
    assert find_phrase(["l￭", "￭'￭", "eau"], "eau") == [range(2, 3)]
    assert find_phrase(["a", "dog"], "") == []
