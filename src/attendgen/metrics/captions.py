"""Caption scores as the COCO evaluation server computes them, without Java.

`tokenise` follows pycocoevalcap's pipeline (Stanford's PTBTokenizer 3.4.1, lower-cased, punctuation dropped); its rules
are read off that program's behaviour, and `scripts/compare_tokenisers.py` measures how often the two differ.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from attendgen.errors import UserError

Key = TypeVar("Key", bound=Hashable)

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
SHORTENED_CAPITALISED = "Ark Del Ill Ore Tex Mass Miss Wash"
SINGULAR = (  # an apostrophe that parts nothing
    "ma'am ma'amselle o'clock d'ya c'mon s'mores li'l e'er o'er ne'er howe'er whene'er where'er cap'n hallowe'en "
    "nor'easter se'ennight hawai'i ol' somethin' c'est quelqu'un"
)
STARTERS = (  # capitalised, they begin a sentence, so that a letter before them was the last one's end
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
        rf"{_any(SHORTENED_CAPITALISED)}|{_any(SHORTENED_CAPITALISED.upper())})\.)(?:-{ALPHANUMERIC}+)*",
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
UNKNOWN = re.compile("[\u00ad\U00010000-\U0010ffff]")  # beyond the tokeniser's alphabet


def _isolate(match: re.Match[str]) -> str:
    # ½ and ² count as word characters for Python but stand alone for the tokeniser
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


def _normalise(token: str) -> str:
    if token in NORMAL:
        return NORMAL[token]
    if set(token) == {"."}:
        return "..." if len(token) > 1 else token
    if SMILEY.fullmatch(token):
        return token.replace("(", "-lrb-").replace(")", "-rrb-").lower()
    if not CURLY.fullmatch(token):
        token = token.replace("’", "'")
    # white space inside a token would part it again
    return token.replace(" ", "\u00a0").replace("&amp;", "&").lower()


def tokenise(caption: str) -> str:
    """A caption's lower-case Penn Treebank tokens without punctuation, parted by spaces: "man's hat." -> man 's hat."""
    text = UNKNOWN.sub("", caption).replace("\u200b", " ")
    if not text.isascii():
        text = re.sub(r"[^\x00-\x7f]", _isolate, text)
    tokens = (_normalise(token) for token in _tokens(text))
    return " ".join(token for token in tokens if token and token not in PUNCTUATION)


def _bleu(hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]) -> dict[str, float]:
    scorer = BleuScorer(n=4)
    for key, hypothesis in hypotheses.items():
        scorer += (hypothesis, references[key])
    scores, _ = scorer.compute_score(option="closest", verbose=0)
    named = {f"bleu{n}": float(score) for n, score in enumerate(scores, start=1)}
    logs = 0.0
    for n in range(1, 5):
        matched = sum(counts["correct"][n - 1] for counts in scorer.ctest)
        guessed = sum(counts["guess"][n - 1] for counts in scorer.ctest)
        logs += math.log((matched + 1e-15) / (guessed + 1e-9))  # BleuScorer's own smoothing
        named[f"bleu{n}_nobp"] = math.exp(logs / n) if guessed else 0.0
    return named


def caption_scores(hypotheses: Mapping[Key, str], references: Mapping[Key, Sequence[str]]) -> dict[str, float]:
    """Scores of one caption a picture against its references, as fractions; CIDEr may reach 10.

    `bleu1` to `bleu4` have the brevity penalty, as COCO reports them; `bleu1_nobp` to `bleu4_nobp` have none, as in
    Show, Attend and Tell (Xu et al. 2015, table 1). `mean_length` and `distinct_words` describe the hypotheses alone.
    CIDEr weighs words by their frequency in these references: for a single picture it is 0.

    Raises:
        UserError: there are no hypotheses, one has no references, or no reference has a word.
    """
    if not hypotheses:
        raise UserError("captions: no hypotheses to score; give at least one")
    for key in hypotheses:
        if not references.get(key):
            raise UserError(f"captions: {key!r} has no reference captions; give at least one or leave it out")
    hyps = {key: tokenise(caption) for key, caption in hypotheses.items()}
    refs = {key: [tokenise(caption) for caption in references[key]] for key in hyps}
    if not any(caption for captions in refs.values() for caption in captions):
        raise UserError(f"captions: none of the references of {len(refs)} pictures holds a word")
    lists = {key: [caption] for key, caption in hyps.items()}
    words = [caption.split() for caption in hyps.values()]
    return {
        **_bleu(hyps, refs),
        "rouge_l": float(Rouge().compute_score(refs, lists)[0]),
        "cider": float(Cider().compute_score(refs, lists)[0]),
        "mean_length": sum(map(len, words)) / len(words),
        "distinct_words": float(len({word for caption in words for word in caption})),
    }
