import re

import pytest

from attendgen.text.tokenizers import LevelTokenizer, join_words, split_caption, split_words
from attendgen.text.vocabulary import Vocabulary
from helpers.sentences import SENTENCES, collapse_spaces


@pytest.mark.parametrize("text", SENTENCES)
def test_join_words_inverts_split_words(text):
    assert join_words(split_words(text)) == collapse_spaces(text)


def test_join_words_inverts_split_words_on_real_text(shared):
    lines = (shared / "data/multi30k/val.fr-en.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    for line in lines:
        assert join_words(split_words(line)) == collapse_spaces(line)


def test_split_words_marks_the_touching_side():
    assert split_words("l'eau.") == ["l", "￭'￭", "eau", "￭."]
    assert split_words("a . b") == ["a", ".", "b"]


def test_fast_path_of_split_caption_equals_the_pattern():
    for text in (
        "A dog runs .",
        "two  dogs\ton it.",
        "a_b 3 c",
        "Dogs",
        " . ",
        "",
        "it's a T-shirt .",
        "café au lait .",
    ):
        assert split_caption(text) == re.findall(r"['’]?\w+(?:[-'’]\w+)*", text.lower())


def test_split_caption_keeps_words_only():
    assert split_caption("Two dogs, a T-shirt & the boy's ball .") == [
        "two",
        "dogs",
        "a",
        "t-shirt",
        "the",
        "boy's",
        "ball",
    ]


def test_pieces_of_another_program_are_joined():
    tokenizer = LevelTokenizer("pretokenized")
    assert tokenizer.split("ho@@ mme l' eau") == ["ho@@", "mme", "l'", "eau"]
    assert tokenizer.join(tokenizer.split("Un ho@@ m@@ me .")) == "Un homme ."
    assert tokenizer.join(tokenizer.split("▁Un ▁homme s ▁. ")) == "Un hommes ."
    assert tokenizer.join(["ho@@"]) == "ho"


def test_outputs_of_pieces_are_compared_with_joined_references():
    vocabulary = Vocabulary.build(["ho@@ mme", "▁Un"], level="pretokenized")
    assert vocabulary.spell("ho@@ mme ho@@ mme") == "homme homme"
    assert vocabulary.decode(vocabulary.encode("ho@@ mme")) == "homme"
    assert Vocabulary.build(["Été"], normalizer="lower").spell("Été") == "été"
