"""Subwords: exact restoration of any text, the library's own encoding, and what is refused."""

import importlib.util
import json
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from attendgen.text.levels import make_tokenizer
from attendgen.text.subwords import PIECES, SWAP, BPETokenizer, SubwordTokenizer, UnigramTokenizer
from attendgen.text.vocabulary import PairVocabulary, Vocabulary, load_vocabulary, save_vocabulary
from helpers.errors import refusal
from helpers.sentences import SENTENCES

LEVELS = ["bpe", "unigram"]
TEXTS = [f"{left} {right}" for left in SENTENCES for right in ("The dogs run. The dog runs.", "l'eau, l'eau\n", "a  b")]


def build(level: str, texts: list[str] = TEXTS, vocab_size: int = 130, min_frequency: int = 1) -> Vocabulary:
    tokenizer = make_tokenizer(level, vocab_size, min_frequency=min_frequency)
    return Vocabulary.build(texts, tokenizer=tokenizer, min_frequency=min_frequency)


@pytest.fixture(params=LEVELS, scope="module")
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return build(request.param)


def random_texts(characters: str, count: int = 200) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(characters, k=rng.randrange(30))) for _ in range(count)]


def test_texts_of_known_characters_are_restored_exactly(vocabulary: Vocabulary) -> None:
    alphabet = "".join(sorted(set("".join(TEXTS))))
    assert vocabulary.unknown is not None
    for text in [*TEXTS, *random_texts(alphabet), *random_texts("a  \nthe.,'_"), "", " ", "   ", "\n\n "]:
        text = vocabulary.normalize(text)
        ids = vocabulary.encode(text)
        assert vocabulary.unknown not in ids
        assert vocabulary.decode(ids) == text
        assert vocabulary.join(vocabulary.to_tokens(ids)) == text


def test_an_unknown_character_is_one_unknown_token_and_no_more(vocabulary: Vocabulary) -> None:
    """Any text can be encoded, and the tokens spell it, also where <unk> stands for them."""
    everything = "".join(map(chr, [*range(0x20, 0x300), 0x2581, 0x1F600, 0x10FFFF, 0xD800, 0xDFFF, 0, 9, 10, 13]))
    known = set("".join(TEXTS))
    for text in [*random_texts(everything), "▁", " ▁ ▁▁", "<unk><pad>", "日本☃☃語", "\ud800a"]:
        text = vocabulary.normalize(text)
        tokens = vocabulary.split(text)
        assert vocabulary.join(tokens) == text
        assert vocabulary.encode(text).count(vocabulary.unknown) == sum(c not in known for c in text)


def test_a_marker_in_the_text_is_a_character_like_others() -> None:
    texts = ["a▁b a▁b a b"]
    for level in LEVELS:
        vocabulary = build(level, texts, 12)
        ids = vocabulary.encode("b▁a a▁ ▁")
        assert vocabulary.decode(ids) == "b▁a a▁ ▁"
        assert vocabulary.unknown not in ids


def test_encoding_equals_the_librarys(vocabulary: Vocabulary) -> None:
    """A model made from the saved data by the library's constructors alone."""
    data = vocabulary.to_dict()["tokenizer"]
    if data["_target_"].endswith("BPETokenizer"):
        merged = [left + right for left, right in data["merges"]]
        names = ["<unk>", *dict.fromkeys([*data["alphabet"], *merged])]
        model = models.BPE(
            {name: index for index, name in enumerate(names)}, [tuple(p) for p in data["merges"]], unk_token="<unk>"
        )
    else:
        model = models.Unigram([("<unk>", 0.0), *(tuple(pair) for pair in data["pieces"])], 0, False)
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    for text in [*TEXTS, *random_texts("The dogsrun., l'eau")]:
        text = vocabulary.normalize(text)
        assert vocabulary.split(text) == library.encode(text.translate(SWAP)).tokens


def test_bpe_merges_the_most_frequent_pair_first() -> None:
    """The example of Sennrich et al. (2016, algorithm 1), without their end-of-word mark."""
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    texts = [word for word, count in words.items() for _ in range(count)]
    tokenizer = BPETokenizer(4 + 10 + 3).train(texts)
    pairs = {word: list(word) for word in words}
    for left, right in tokenizer.to_dict()["merges"]:
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in pairs.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        assert counts[left, right] == max(counts.values())
        for word, parts in pairs.items():
            joined = "\0".join(["", *parts, ""]).replace(f"\0{left}\0{right}\0", f"\0{left + right}\0")
            pairs[word] = joined.strip("\0").split("\0")
    assert len(tokenizer.to_dict()["merges"]) == 3
    assert {word: tokenizer.split(word) for word in words} == pairs


@pytest.mark.parametrize("level", LEVELS)
def test_the_size_counts_special_tokens_and_ids_are_in_order_of_frequency(level: str) -> None:
    vocabulary = build(level, TEXTS * 3, 120)
    alphabet = len(set("".join(TEXTS)))
    assert len(vocabulary) == 120 if level == "bpe" else alphabet + 4 < len(vocabulary) <= 120
    counts = Counter(token for text in TEXTS for token in vocabulary.split(text))
    found = [counts[token] for token in vocabulary.tokens[4:]]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("level", LEVELS)
def test_rare_characters_are_unknown_and_part_words(level: str) -> None:
    vocabulary = build(level, ["ab☃cd abcd"] * 3 + ["x☃y z"], 30, min_frequency=3)
    assert vocabulary.encode("xyz") == [vocabulary.unknown] * 3
    assert all("☃" not in token or token == "☃" for token in vocabulary.tokens)
    assert vocabulary.unknown not in vocabulary.encode("ab☃cd")


def test_no_subword_spans_words_or_punctuation(vocabulary: Vocabulary) -> None:
    for token in vocabulary.tokens[4:]:
        text = vocabulary.join([token])
        assert " " not in text.lstrip(" ")
        bare = text.strip(" \n")
        assert bare.replace("_", "a").isalnum() or not any(c.isalnum() for c in bare)


@pytest.mark.parametrize("level", LEVELS)
def test_a_saved_vocabulary_encodes_the_same(tmp_path, level: str) -> None:
    first = build(level)
    save_vocabulary(PairVocabulary(first, Vocabulary.build(TEXTS)), tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, PairVocabulary)
    for text in TEXTS:
        assert loaded.source.encode(text) == first.encode(text)
    assert loaded.source.to_dict() == first.to_dict()


TRAIN = """
import json, sys
from attendgen.text.levels import make_tokenizer
level, texts = json.load(sys.stdin)
print(json.dumps(make_tokenizer(level, 130).train(texts).to_dict()))
"""


@pytest.mark.parametrize("level", LEVELS)
def test_training_is_the_same_each_time_and_in_every_process(level: str) -> None:
    given = json.dumps([level, TEXTS])
    outputs = {subprocess.run([sys.executable, "-c", TRAIN], input=given, capture_output=True, text=True).stdout}
    outputs |= {json.dumps(make_tokenizer(level, 130).train(TEXTS).to_dict()) + "\n" for _ in range(5)}
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bpe",), "data.level=bpe: needs the number of subwords, such as data.vocab_size=8000"),
        (("bpe", 0), "data.vocab_size=0: expected a whole number of tokens, such as 8000"),
        (("unigram", -3), "data.vocab_size=-3: expected a whole number of tokens, such as 8000"),
        (("bpe", "x"), "data.vocab_size=x: expected a whole number of tokens, such as 8000"),
        (("unigram", True), "data.vocab_size=True: expected a whole number of tokens, such as 8000"),
        (
            ("characters", 8000),
            "data.vocab_size=8000: a setting of subwords; leave it out with data.level=characters",
        ),
        (
            ("syllables",),
            "data.level=syllables: unknown; choose one of characters, words, caption, pretokenized, bpe, unigram",
        ),
        (("bpe", 8, BPETokenizer(9)), "data.vocab_size=8: a setting of subwords; leave it out with data.tokenizer"),
        (
            ("bpe", None, "words"),
            "data.tokenizer: str is not a tokenizer; it needs unit, split(), join() and to_dict()",
        ),
    ],
)
def test_wrong_settings_are_one_line(arguments, message: str) -> None:
    make = make_tokenizer.__wrapped__ if hasattr(make_tokenizer, "__wrapped__") else make_tokenizer
    assert refusal(make, *arguments) == message


@pytest.mark.parametrize("kind", [BPETokenizer, UnigramTokenizer])
def test_a_size_below_the_number_of_characters_is_one_line(kind: type[SubwordTokenizer]) -> None:
    number = len(set("".join(TEXTS)))
    told = refusal(kind(40).train, TEXTS)
    assert told == (
        f"data.vocab_size=40: the training text has {number} different characters; give more than {number + 4}, or "
        "raise data.min_frequency"
    )
    assert "no character is left" in refusal(kind(40, min_frequency=10**6).train, TEXTS)


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = refusal(BPETokenizer(99).train, TEXTS)
    assert told == "tokenizers is not installed; run pip install 'attendgen[subwords]'"
