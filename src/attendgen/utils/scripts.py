"""What Unicode says of characters: marks that belong to the letter before them, scripts without blanks."""

import functools
import re
import unicodedata
from collections.abc import Iterable

# Ranges of the scripts that put no blanks between words: Han, Hiragana and Katakana, Bopomofo, Thai, Lao, Khmer,
# Burmese, Tibetan. A word is as long as the sentence there, so each letter is a token.
HAN = "\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
OTHERS = "\u0e00-\u0e4f\u0e80-\u0edf\u0f40-\u0fbc\u1000-\u103f\u1050-\u109d\u1780-\u17d3\u3100-\u312f\u31a0-\u31bf"
UNSPACED = re.compile(f"[{HAN}{KANA}{OTHERS}]")
JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and between emoji


@functools.cache
def find_marks() -> str:
    """Return all combining marks, as ranges of a regular expression's class."""
    places = (range(0x20000), range(0xE0000, 0xE0200))  # the planes between have letters alone
    codes = [code for place in places for code in place if unicodedata.category(chr(code)).startswith("M")]
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def is_mark(character: str) -> bool:
    """Return whether a character is a combining mark."""
    return unicodedata.category(character).startswith("M")


@functools.cache
def make_word_pattern() -> str:
    """Return the pattern of a word: letters, digits and underscores with their marks; one letter without blanks.

    Joiners belong to a word if they stand within it.
    """
    marks, unspaced = find_marks(), f"{HAN}{KANA}{OTHERS}"
    spaced = f"(?:(?![{unspaced}])[\\w{marks}])"
    return f"(?:[{unspaced}][{marks}]*|{spaced}+(?:[{JOINERS}]{spaced}+)*)"


@functools.cache
def make_symbol_pattern() -> str:
    """Return the pattern of a symbol or punctuation mark; what emoji are composed of stays together."""
    modifier = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
    flag = "[\U0001f1e6-\U0001f1ff]{2}"
    return f"(?:{flag}|[^\\w\\s]{modifier}*(?:\u200d[^\\w\\s]{modifier}*)*)"


@functools.cache
def compile_tokens(pattern: str) -> re.Pattern[str]:
    """Return a pattern in which `word` and `symbol` stand for those of any script, made when a text needs it."""
    return re.compile(pattern.replace("word", make_word_pattern()).replace("symbol", make_symbol_pattern()))


def split_caption_words(text: str) -> list[str]:
    """Split into words without punctuation; words keep apostrophes and hyphens within them."""
    return compile_tokens(r"['’]?word(?:[-'’]word)*").findall(text)


def is_unspaced(text: str) -> bool:
    """Return whether a text has letters of a script without blanks."""
    return not text.isascii() and UNSPACED.search(text) is not None


def needs_unicode(text: str) -> bool:
    """Return whether a text has letters without blanks, or marks of other scripts than Latin, Greek and Cyrillic."""
    if text.isascii():
        return False
    return is_unspaced(text) or any(ord(c) > 0x36F and is_mark(c) and c != "\ufe0f" for c in text)


def choose_tokenizer(texts: Iterable[str]) -> str:
    """Return sacrebleu's tokenizer for the script of texts: zh, char for others without blanks, else 13a."""
    han = kana = other = letters = 0
    for text in texts:
        if text.isascii():
            letters += len(text)
            continue
        letters += sum(map(str.isalpha, text))
        han += len(re.findall(f"[{HAN}]", text))
        kana += len(re.findall(f"[{KANA}]", text))
        other += len(re.findall(f"[{OTHERS}]", text))
    if 2 * (han + kana + other) < letters or not han + kana + other:
        return "13a"
    return "zh" if han and not kana and not other else "char"
