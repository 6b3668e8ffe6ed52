"""Normalization of texts before they are split into tokens."""

import re
import string
import unicodedata
from collections.abc import Callable

from attendgen.text.tokenizers import split_caption

PRINTABLE = string.printable

# What decomposition leaves without a letter or a mark, spelled as the Unidecode package spells it. Its tables for other
# scripts (Greek, Hebrew, ...) are left out: their letters are dropped here.
MARKS = {
    **dict.fromkeys("‘’‛′", "'"),
    **dict.fromkeys("“”‟", '"'),
    **dict.fromkeys("‐‑‒–", "-"),
    **dict.fromkeys("—―", "--"),
    **{"‚": ",", "„": ",,", "″": "''", "‹": "<", "›": ">", "«": "<<", "»": ">>", "•": "*", "†": "+", "‡": "++"},
    **{"¡": "!", "¿": "?", "£": "PS", "€": "EUR", "¢": "C/", "¥": "Y=", "§": "SS", "¶": "P", "©": "(c)", "®": "(r)"},
    **{"°": "deg", "±": "+-", "×": "x", "÷": "/", "µ": "u", "·": "*", "¦": "|", "´": "'", "¨": '"', "™": "(tm)"},
    **{"¼": " 1/4", "½": " 1/2", "¾": " 3/4", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ß": "ss", "ẞ": "SS"},
    **{"ø": "o", "Ø": "O", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "đ": "d", "Đ": "D", "ł": "l", "Ł": "L", "ı": "i"},
}
TABLE = str.maketrans(MARKS)


def to_printable(text: str) -> str:
    """Reduce a text to `string.printable`: accents folded, marks and ligatures spelled out, the rest dropped."""
    if text.isascii():
        return text if text.isprintable() else "".join(c for c in text if c in PRINTABLE)
    marked = unicodedata.normalize("NFC", text).translate(TABLE)
    return "".join(c for c in unicodedata.normalize("NFKD", marked) if c in PRINTABLE)


def _compose(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _fold(text: str) -> str:
    bare = (c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in bare).split())


def _letters(text: str) -> str:
    return re.sub("[^a-z ]", "", text.lower())


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": _compose,  # accents as single characters, nothing else changed
    "lower": lambda text: _compose(text).lower(),
    "caption": lambda text: " ".join(split_caption(_compose(text))),  # the lower-case words of a caption
    "fold": _fold,  # case, accents and punctuation ignored, white space collapsed
    "letters": _letters,  # a-z and space, everything else dropped
    "printable": to_printable,  # the 100 characters of string.printable: accents folded, everything else dropped
}
