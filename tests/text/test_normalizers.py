import string

import pytest
from unidecode import unidecode

from attendgen.text.normalizers import MARKS, NORMALIZERS, to_printable


def test_accents_and_marks_are_folded():
    assert (
        to_printable("“Élan—naïve,” said Œdipe’s cœur… £5\u00a0½") == '"Elan--naive," said OEdipe\'s coeur... PS5  1/2'
    )


def test_decomposed_accents_equal_composed_ones():
    assert to_printable("e\u0301a\u0300") == to_printable("éà") == "ea"


def test_other_scripts_are_dropped_and_ascii_stays():
    assert to_printable("a\u0436b\x00\x7f\u4e2dc") == "abc"
    assert to_printable(string.printable) == string.printable
    for mark in MARKS.values():
        assert to_printable(mark) == mark


def test_to_printable_equals_unidecode():
    latin = [chr(code) for code in range(0xC0, 0x180) if chr(code) in MARKS or to_printable(chr(code))]
    assert len(latin) > 150
    for character in (*latin, *MARKS):
        if character not in "ĸŉ":
            assert to_printable(character) == unidecode(character), character


@pytest.mark.parametrize(
    ("normalizer", "text", "expected"),
    [
        ("none", "E\u0301te\u0301", "Été"),
        ("lower", "E\u0301TÉ !", "été !"),
        ("fold", "  Ça,  VA-t-il ?", "ca va t il"),
        ("letters", "Don't 9", "dont "),
        ("printable", "Ça — ж", "Ca -- "),
    ],
)
def test_normalizers(normalizer, text, expected):
    assert NORMALIZERS[normalizer](text) == expected
    assert NORMALIZERS[normalizer](expected) == expected


def test_normalization_form_is_a_setting():
    text = "é ｆ"
    assert NORMALIZERS["raw"]("e\u0301") == "e\u0301"
    assert NORMALIZERS["none"]("e\u0301") == "é"
    assert {name: NORMALIZERS[name](text) for name in ("nfd", "nfkc", "nfkd")} == {
        "nfd": "e\u0301 ｆ",
        "nfkc": "é f",
        "nfkd": "e\u0301 f",
    }


def test_folding_keeps_the_vowels_of_words():
    assert NORMALIZERS["fold"]("Ça, VA ?") == "ca va"
    assert NORMALIZERS["fold"]("सड़क पर है।").split() == ["सड़क".replace("ड़", "ड\u093c"), "पर", "है"]
    assert NORMALIZERS["fold"]("ก็ ไม่") == "ก็ ไม่"
