"""The tokenizer of caption scores, without Java.

`tokenize` follows pycocoevalcap's pipeline (Stanford's PTBTokenizer 3.4.1, lower-cased, punctuation dropped); its rules
are read off that program's behavior, and `scripts/compare_tokenizers.py` measures how often the two differ.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from attendgen.utils.scripts import needs_unicode, split_caption_words

# pycocoevalcap's list less the brackets: it has them in capitals, which lower-cased text never matches, so they stay
PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

NORMAL = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **{"£": "#", "€": "$", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
    **{"…": "...", "‥": ".", "–": "--", "—": "--", "―": "--", "---": "--", "----": "--", "‐": "-", "‑": "-"},
    **dict.fromkeys(('"', "“", "”", "‘", "’", "«", "»", "‹", "›", "&quot;", "&apos;"), "'"),
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": ""},
}


APOSTROPHE = "['’]"


HYPHEN = "[-‐‑]"


ALPHANUMERIC = r"(?:[^\W_][\u0300-\u036f]*)"


LETTER = r"(?:[^\W\d_][\u0300-\u036f]*)"


NUMBER = r"[-+]?(?:\d*[.,:])*\d+"


WORD = rf"(?:[dDoOlL]{APOSTROPHE}{LETTER}(?={LETTER}))?{ALPHANUMERIC}+"  # dog, O'Neil


SHORTENED = (  # keep their full stop
    # months, days and states
    "jan feb mar apr jun jul aug sept? oct nov dec mon tues? wed thu thurs fri ala ariz calif colo conn ct dak fla ga "
    "ind kans? ky md mich minn mo mont neb nev okla penn tenn va vt wisc? wyo "
    # titles and ranks
    "adm alex asst att?ys? brig capt cmdr col comdr cpl det drs? ens esq gen govs? hon insp jos jr lieut lt maj messrs "
    "mlle mme mrs? ms msgr pfc pres prof p?ptes? pvt reps? rev sens? sfc sgt spc sr supts? treas wm "
    # firms, places and the rest
    "adj adv al assn assoc ave bancorp bhd bldg blvd bros cf cie co corp cos dept elec est etc ext ft inc intl invt "
    "ltd mfg mt mtg natl ph plc p?ptys? rd rt seq sq st ste sys tel univ vs"
)


SHORTENED_NAMES = "AZ Az LA La PA Pa"  # words when in lower case, like the next


SHORTENED_CAPITALIZED = "Ark Del Ill Ore Tex Mass Miss Wash"


SINGULAR = (  # an apostrophe that does not split
    "ma'am ma'amselle o'clock d'ya c'mon s'mores li'l e'er o'er ne'er howe'er whene'er where'er cap'n hallowe'en "
    "nor'easter se'ennight hawai'i ol' somethin' c'est quelqu'un"
)


STARTERS = (  # capitalized, they begin a sentence, so that a letter before them was the last one's end
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once "
    "One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)


def _any(words: str) -> str:
    return "|".join(words.replace("'", APOSTROPHE).split())


# The longest match wins, the first of equals.
RULES = [
    re.compile(pattern)
    for pattern in (
        rf"{WORD}(?:{HYPHEN}{WORD})*",
        rf"\d+(?:[.,]\d+)+(?:{HYPHEN}{WORD})+",  # 10,000-seat
        rf"{WORD}(?:{HYPHEN}{WORD})*(?:/{WORD}(?:{HYPHEN}{WORD})*)+",  # black/white
        rf"{ALPHANUMERIC}+(?:_{ALPHANUMERIC}+)+",
        rf"{LETTER}{ALPHANUMERIC}*(?:[.?!]{LETTER}{ALPHANUMERIC}*)+(?:-{ALPHANUMERIC}+)*",  # statefarm.com
        rf"{ALPHANUMERIC}+[.,](?:-{ALPHANUMERIC}+)+",
        rf"[A-Za-z]\.(?!\s+(?:{_any(STARTERS)})\b)(?:-{ALPHANUMERIC}+)*",
        # U.S., U.S.-made, Mr.
        rf"(?:[A-Za-z](?:\.[A-Za-z])+\.|[Pp][Hh]\.[Dd]\.|(?:(?i:{_any(SHORTENED)})|{_any(SHORTENED_NAMES)}|"
        rf"{_any(SHORTENED_CAPITALIZED)}|{_any(SHORTENED_CAPITALIZED.upper())})\.)(?:-{ALPHANUMERIC}+)*",
        r"(?i:art|ca|figs?|nos?|op|pp|prop)\.(?=\s\d)",  # No. 6
        rf"{ALPHANUMERIC}+\.(?=[;:,])",
        NUMBER,
        r"\d+[ \u00a0]\d+/\d+",  # 2 1/2 is one token
        r"[A-Z]+&(?:amp;)?[A-Z]+",  # AT&T, but at & t
        r"[A-Z]*\$",
        rf"#{LETTER}\w*|@[A-Za-z_]\w*",
        r"</?[A-Za-z!][^>]*>",
        r"https?://[^\s\"<>|]*[^\s\"<>|.!?(){},-]",
        r"[A-Za-z0-9][^\s\"<>|(){}@]*@[^\s\"<>|(){}.@]+(?:\.[^\s\"<>|(){}.]+)*",
        # clitics; after a straight apostrophe no letter may follow
        r"(?i:'(?:s|m|d|re|ve|ll))(?![A-Za-z])|(?i:’(?:s|m|d|re|ve|ll))",
        rf"(?i:n{APOSTROPHE}t){LETTER}*",
        rf"(?i:{_any(SINGULAR)})(?!{ALPHANUMERIC})",
        rf"(?i:[djly]{APOSTROPHE})(?={LETTER})",  # y' all
        rf"(?i:{APOSTROPHE}em|{APOSTROPHE}(?:till?|cause)(?!{ALPHANUMERIC}))",
        rf"(?i:qu{APOSTROPHE}){LETTER}+",
        rf"(?i:{APOSTROPHE}n{APOSTROPHE}|{APOSTROPHE}n(?!{ALPHANUMERIC}))",  # rock 'n' roll
        rf"'\d\d(?=\s|$)|’\d\d(?!{ALPHANUMERIC})|{APOSTROPHE}\d\ds(?!{ALPHANUMERIC})",  # '90s
        rf"[<>]?[:;=][-o*']?[()DPdpO\\{{@|\[\]](?!{ALPHANUMERIC})|\^_\^|[<>=]_[<>=]",  # smileys
        r"&(?:amp|lt|gt|quot|apos|nbsp);|&#\d+;",
        r"-[LlRr][RrSsCc][Bb]-",
        r"\.{3,}|-{2,}|[?!]+|_+|\*+|#+|@+|<<|>>|''",
        r"\S",
    )
]


PLAIN = re.compile(r"[A-Za-z]+(?=\s|$)")


NEGATED = re.compile(rf"(?i)[a-z]+?(?=n{APOSTROPHE}t)")


FUSED = re.compile(rf"(?i)(can)(not)|(gon|wan)(na)|(got)(ta)|(gim|lem)(me)|('t)(is|was)|(more)({APOSTROPHE}n)")


# these alone keep a curly apostrophe
CURLY = re.compile(r"(?i)’(?:em|n’?|till?|cause|\d\ds?)|(?!n’t)[a-z]+’[a-z]+|ol’")


SMILEY = re.compile(r"[<>]?[:;=].{1,2}")


UNKNOWN = re.compile("[\u00ad\U00010000-\U0010ffff]")  # beyond the tokenizer's alphabet


ACROSS_BLANKS = re.compile(r"/|<[^\s>]*\s|\.\S*\s")  # only here do rules look beyond a blank: 2 1/2, <a b>, No. 6


def _isolate(match: re.Match[str]) -> str:
    # ½ and ² count as word characters for Python but stand alone for the tokenizer
    char = match.group()
    return char if char.isalpha() or char.isdecimal() or not char.isalnum() else f" {char} "


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        # most tokens need no more than this
        if (plain := PLAIN.match(text, position)) and not FUSED.match(plain.group()):
            yield plain.group()
            position = plain.end()
            continue
        token = max((match.group() for rule in RULES if (match := rule.match(text, position))), key=len)
        if (negated := NEGATED.match(text, position)) and len(negated.group()) + len("n't") >= len(token):
            token = negated.group()
        fused = FUSED.match(text, position)
        if fused and len(fused.group()) >= len(token):
            token = fused.group()
            yield from (part for part in fused.groups() if part)
        else:
            yield token
        position += len(token)


def _normalize(token: str) -> str:
    if token in NORMAL:
        return NORMAL[token]
    if set(token) == {"."}:
        return "..." if len(token) > 1 else token
    if SMILEY.fullmatch(token):
        return token.replace("(", "-lrb-").replace(")", "-rrb-").lower()
    if not CURLY.fullmatch(token):
        token = token.replace("’", "'")
    # white space inside a token would split it again
    return token.replace(" ", "\u00a0").replace("&amp;", "&").lower()


def tokenize(caption: str) -> str:
    """Return a caption's lower-case Penn Treebank tokens without punctuation: "man's hat." -> man 's hat.

    In scripts without blanks each letter is a token, and in those whose vowels are marks a word keeps them.
    """
    if needs_unicode(caption):
        return " ".join(split_caption_words(unicodedata.normalize("NFC", caption).lower()))
    text = UNKNOWN.sub("", caption).replace("\u200b", " ").strip()
    if not text.isascii():
        text = re.sub(r"[^\x00-\x7f]", _isolate, text)
    if ACROSS_BLANKS.search(text):
        return _tokenize_text(text)
    return " ".join(filter(None, map(_tokenize_word, text.split())))


def is_context_free(word: str) -> bool:
    """Return whether the tokens of a word, which holds no blank, are the same in every caption of such words."""
    return not needs_unicode(word) and not ACROSS_BLANKS.search(f"{word} ")


def _tokenize_text(text: str) -> str:
    tokens = (_normalize(token) for token in _tokens(text))
    return " ".join(token for token in tokens if token and token not in PUNCTUATION)


# captions repeat their words
_tokenize_word = lru_cache(maxsize=2**16)(_tokenize_text)
