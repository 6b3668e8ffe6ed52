"""Text as the 100 symbols of `string.printable`, for models that know no others."""

import string
import unicodedata

PRINTABLE = string.printable

# What decomposition leaves without a letter or a mark, written as the Unidecode package writes it. Its tables for other
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
    """Accents folded, typographic marks and ligatures spelt out, everything else outside `string.printable` dropped."""
    if text.isascii():
        return text if text.isprintable() else "".join(c for c in text if c in PRINTABLE)
    marked = unicodedata.normalize("NFC", text).translate(TABLE)
    return "".join(c for c in unicodedata.normalize("NFKD", marked) if c in PRINTABLE)
