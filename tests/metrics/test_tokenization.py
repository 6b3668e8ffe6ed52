"""The tokenizer of caption scores against the Java program that it replaces."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from attendgen.metrics.tokenization import is_context_free, tokenize

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_tokenizers.py"


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's T-shirt.", "a man 's t-shirt"),
        ("the dogs' bowls", "the dogs bowls"),
        ("He doesn't; they can't, it’s", "he does n't they ca n't it 's"),
        ("they cannot and we're gonna", "they can not and we 're gon na"),
        ('A sign ( "STOP!" ) -- red , white', "a sign -lrb- stop -rrb- red white"),
        ("at&t , AT&T and M & M", "at & t at&t and m & m"),
        ("Mr. Potato in the U.S. at 8:25.", "mr. potato in the u.s. at 8:25"),
        ("rock 'n' roll at 5 o'clock y'all", "rock 'n' roll at 5 o'clock y' all"),
        ("a 5-year-old jumps 10,000.5 ft for $5", "a 5-year-old jumps 10,000.5 ft for $ 5"),
        ("café\nwith\ttwo  tables 😀…", "café with two tables"),
        ("...", ""),
        ("", ""),
    ],
)
def test_captions_are_tokenized_as_the_java_program_does(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens


def test_tokens_are_tokenized_to_themselves() -> None:
    # the scorers split the tokens again
    text = tokenize("Two dogs (one's black) can't catch a 3rd, red/white ball!")
    assert tokenize(text) == text


@pytest.mark.parametrize("unit", ["1-", "a.", "a/", "1.1-", "1/1-", "a_", "A&", "a'"])
def test_no_rule_backtracks_exponentially(unit: str) -> None:
    """A rule with ambiguous repetition would not return from these texts; the tokens hold every letter and digit."""
    text = tokenize(unit * 300 + "!")
    assert [char for char in text if char.isalnum()] == [char for char in (unit * 300).lower() if char.isalnum()]


WORDS = (
    *("A", "a.", "st.", "No.", "2", "1/2", "3.5", "10,", "<a", "<unk>", "b>", "man's", "dogs'", "'n'", "’s", "can"),
    *("cannot", "gonna", "na", "-", "...", "café", "x²", ":-)", "T-shirt"),
)


@pytest.mark.parametrize(
    ("word", "free"),
    [("dog", True), ("man's", True), ("<unk>", True), ("1/2", False), ("No.", False), ("<a", False), ("犬", False)],
)
def test_words_whose_tokens_depend_on_others_are_known(word: str, free: bool) -> None:
    assert is_context_free(word) == free


def test_words_without_context_have_their_tokens_in_every_caption() -> None:
    free = list(filter(is_context_free, WORDS))
    assert len(free) > len(WORDS) / 2
    for first in free:
        for second in free:
            alone = " ".join(filter(None, map(tokenize, (first, second))))
            assert tokenize(f"{first} {second}") == alone
            assert tokenize(f"/ {first} {second}") == f"/ {alone}".strip()  # a slash is read with its neighbors


def test_rules_look_beyond_blanks() -> None:
    assert tokenize("2 1/2 cups") == "2\u00a01/2 cups"
    assert tokenize("see no. 6 and no. six") == "see no. 6 and no six"
    assert tokenize("<a b> c") == "<a\u00a0b> c"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs java")
def test_real_captions_equal_the_java_tokenizer(shared: Path) -> None:
    spec = importlib.util.spec_from_file_location("compare_tokenizers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    captions = script.read_flickr8k_captions(shared / "data" / "flickr8k" / "Flickr8k.token.txt")
    for file in sorted((shared / "data" / "coco_mini" / "annotations").glob("*.json")):
        captions += script.read_coco_captions(file)
    captions = [" ".join(caption.split()) for caption in captions]
    assert len(captions) > 35_000
    java = script.tokenize_with_java(captions)
    assert [caption for caption, theirs in zip(captions, java, strict=True) if tokenize(caption) != theirs] == []
