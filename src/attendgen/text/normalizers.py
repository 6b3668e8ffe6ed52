"""Normalization of texts before they are split into tokens."""

import functools
import re
import string
import unicodedata
from collections.abc import Callable

from attendgen.text.tokenizers import join_caption, split_caption
from attendgen.utils.scripts import is_mark

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


# marks that can be left out: accents, and the vowels of Hebrew and Arabic; other scripts spell words with theirs
ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
)


def _compose(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _fold(text: str) -> str:
    bare = ACCENTS.sub("", unicodedata.normalize("NFKD", text.lower()))
    return " ".join("".join(c if c.isalnum() or is_mark(c) else " " for c in bare).split())


def _letters(text: str) -> str:
    return re.sub("[^a-z ]", "", text.lower())


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": _compose,  # NFC: accents as single characters, nothing else changed
    "raw": str,  # not even that
    "nfd": functools.partial(unicodedata.normalize, "NFD"),  # accents as characters of their own
    "nfkc": functools.partial(unicodedata.normalize, "NFKC"),  # one spelling of full-width letters and ligatures
    "nfkd": functools.partial(unicodedata.normalize, "NFKD"),
    "lower": lambda text: _compose(text).lower(),
    "caption": lambda text: join_caption(split_caption(_compose(text))),  # the lower-case words of a caption
    "fold": _fold,  # case, accents and punctuation ignored, white space collapsed
    "letters": _letters,  # a-z and space, everything else dropped
    "printable": to_printable,  # the 100 characters of string.printable: accents folded, everything else dropped
}
