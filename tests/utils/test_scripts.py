"""Words of all scripts: marks belong to the letter before them, and scripts without blanks are split by letter."""

import pytest

from attendgen.metrics.tokenization import tokenize
from attendgen.text.normalizers import NORMALIZERS
from attendgen.text.tokenizers import JOINER, join_caption, join_words, split_caption, split_words
from attendgen.utils.scripts import choose_tokenizer

FAMILY = "👨\u200d👩\u200d👧"
CAPTIONS = {
    "एक लाल कार सड़क पर है।": ["एक", "लाल", "कार", "सड़क", "पर", "है"],
    "سَيَّارَةٌ حمراء، جميلة": ["سَيَّارَةٌ", "حمراء", "جميلة"],
    "一辆红色的车。": list("一辆红色的车"),
    "犬が走る": list("犬が走る"),
    "หมาวิ่ง": ["ห", "ม", "า", "วิ่", "ง"],
    "می\u200cخواهم": ["می\u200cخواهم"],
    f"A dog {FAMILY} runs": ["a", "dog", "runs"],
    "Cafe\u0301 l'été": ["cafe\u0301", "l'été"],
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_words_of_captions_keep_their_marks(caption: str) -> None:
    assert split_caption(caption) == CAPTIONS[caption]


@pytest.mark.parametrize("caption", [text for text in CAPTIONS if text.isprintable() and text[0] not in "AC"])
def test_scores_compare_the_same_words(caption: str) -> None:
    assert tokenize(caption).split() == CAPTIONS[caption]


def test_captions_without_blanks_are_joined_without() -> None:
    assert join_caption(["红", "色", "car", "车"]) == "红色 car 车"
    assert join_caption(["a", "dog"]) == "a dog"
    assert NORMALIZERS["caption"]("一辆红车。 Dog!") == "一辆红车 dog"


TEXTS = [*CAPTIONS, "我爱hello你 x", f"a{FAMILY}b 🇫🇷🇩🇪!", "👍🏽 ok", "कि॥ख", "\u0301a", "ก็ ไม่"]


@pytest.mark.parametrize("text", TEXTS)
def test_words_of_any_script_are_joined_again(text: str) -> None:
    assert join_words(split_words(text)) == " ".join(text.split())


def test_words_of_sentences() -> None:
    assert split_words("我爱你!") == ["我", f"{JOINER}爱", f"{JOINER}你", f"{JOINER}!"]
    assert split_words(f"{FAMILY} 🇫🇷🇩🇪 👍🏽") == [FAMILY, "🇫🇷", f"{JOINER}🇩🇪", "👍🏽"]
    assert split_words("है।") == ["है", f"{JOINER}।"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A dog runs.", "Un été 红"], "13a"),
        (["一辆红色的车", "ok 3"], "zh"),
        (["犬が走る。"], "char"),
        (["หมาวิ่ง"], "char"),
        (["एक लाल कार"], "13a"),
        ([], "13a"),
        (["123 !"], "13a"),
    ],
)
def test_tokenizer_of_scores_goes_by_the_script(texts: list[str], expected: str) -> None:
    assert choose_tokenizer(texts) == expected
