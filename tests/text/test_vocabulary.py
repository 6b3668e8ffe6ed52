import json
import re
import unicodedata
from collections import Counter

import pytest

from attendgen.text.tokenizers import join_words, split_caption, split_words
from attendgen.text.vocabulary import PairVocabulary, Vocabulary, load_vocabulary, save_vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

SENTENCES = (
    "L'eau n'est pas chaude, dit-elle.",
    '"Où vas-tu ?" -- (nulle part...)',
    "snake_case __init__ a.b.c 3,14 € 50 %",
    "Wait!! What?!... don't: it's 5-year-old's",
    "naïve œuvre ДОМ 日本語。",
    "'quoted' ''twice''",
    "a",
    ".",
)


def same_words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", SENTENCES)
def test_words_rejoin_losslessly(text):
    assert join_words(split_words(text)) == same_words(text)


def test_words_rejoin_losslessly_on_real_text(shared):
    lines = (shared / "data/multi30k/val.fr-en.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    for line in lines:
        assert join_words(split_words(line)) == same_words(line)


def test_split_words_marks_the_touching_side():
    assert split_words("l'eau.") == ["l", "￭'￭", "eau", "￭."]
    assert split_words("a . b") == ["a", ".", "b"]


def test_plain_captions_are_split_as_all_others_are():
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


@pytest.mark.parametrize("level", ["characters", "words"])
@pytest.mark.parametrize("text", SENTENCES)
def test_known_text_survives_encode_and_decode(level, text):
    vocabulary = Vocabulary.build(SENTENCES, level)
    wanted = unicodedata.normalize("NFC", text)
    assert vocabulary.decode(vocabulary.encode(text)) == (wanted if level == "characters" else same_words(wanted))


def test_ids_rank_symbols_by_frequency_after_the_specials():
    vocabulary = Vocabulary.build(["abca", "cad"])
    assert vocabulary.tokens == ("<pad>", "<sos>", "<eos>", "<unk>", "a", "c", "b", "d")
    assert [vocabulary.ids[symbol] for symbol in ("<pad>", "<sos>", "<eos>")] == [PAD, SOS, EOS]
    assert [vocabulary.tokens[index] for index in vocabulary.encode("dab")] == ["d", "a", "b"]
    assert vocabulary.sizes() == {"symbols": len(vocabulary)}


def test_min_frequency_and_max_size_cut_the_rare_ones():
    texts = ["the cat the dog", "the cat a bird"]
    counts = Counter(" ".join(texts).split())
    frequent = Vocabulary.build(texts, "words", min_frequency=2)
    assert set(frequent.tokens[4:]) == {word for word, count in counts.items() if count >= 2}
    assert frequent.encode("the bird") == [frequent.ids["the"], frequent.unknown]
    assert Vocabulary.build(texts, "words", max_size=1).tokens[4:] == (counts.most_common(1)[0][0],)


def test_decode_stops_at_eos_and_skips_padding():
    vocabulary = Vocabulary.build(["ab"])
    a, b = vocabulary.encode("ab")
    assert vocabulary.decode([SOS, a, PAD, b, EOS, a, a]) == "ab"


def test_letters_have_no_unknown_and_drop_the_rest():
    vocabulary = Vocabulary.build([], normalizer="letters")
    assert vocabulary.unknown is None
    assert len(vocabulary) == 3 + 27
    assert vocabulary.decode(vocabulary.encode("Déjà 2 Vu!")) == "dj  vu"


@pytest.mark.parametrize(
    ("normalizer", "left", "right"),
    [
        ("none", "e\u0301te\u0301", "été"),
        ("lower", "ÉTÉ", "été"),
        ("fold", "  Ça,  VA-t-il ?", "ca va t il"),
        ("letters", "Don't 9", "dont "),
    ],
)
def test_normalisers_treat_spellings_alike(normalizer, left, right):
    vocabulary = Vocabulary.build([left, right], normalizer=normalizer)
    assert vocabulary.encode(left) == vocabulary.encode(right)
    assert vocabulary.decode(vocabulary.encode(left)) == right


def test_none_keeps_case_apart():
    vocabulary = Vocabulary.build(["aA"])
    assert vocabulary.encode("a") != vocabulary.encode("A")


@pytest.mark.parametrize("text", ["", "  \n", "zzz"])
@pytest.mark.parametrize("normalizer", ["none", "letters"])
def test_encode_known_refuses_what_says_nothing(text, normalizer):
    vocabulary = Vocabulary.build(["ab ab"], "words", normalizer)
    with pytest.raises(UserError, match="prompt: "):
        vocabulary.encode_known(text, "prompt")
    assert vocabulary.encode_known("zzz ab", "prompt") == vocabulary.encode("zzz ab")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbols": ["a", "b", "a"]}, "'a' stands twice"),
        ({"symbols": ["<eos>"]}, "'<eos>' stands twice"),
        ({"symbols": [], "normalizer": "upper"}, "normalizer=upper"),
    ],
)
def test_impossible_vocabularies_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Vocabulary(**arguments)


def same(left: Vocabulary, right: Vocabulary) -> bool:
    return (left.tokens, left.level, left.normalizer) == (right.tokens, right.level, right.normalizer)


@pytest.mark.parametrize("level", ["characters", "words", "caption"])
@pytest.mark.parametrize("normalizer", ["none", "lower", "fold", "letters"])
def test_saved_vocabulary_loads_the_same(tmp_path, level, normalizer):
    vocabulary = Vocabulary.build(SENTENCES, level, normalizer)
    save_vocabulary(vocabulary, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, Vocabulary)
    assert same(loaded, vocabulary)
    assert loaded.encode(SENTENCES[0]) == vocabulary.encode(SENTENCES[0])


def test_saved_pair_loads_the_same(tmp_path):
    pair = PairVocabulary(Vocabulary.build(["ab"]), Vocabulary.build(["c d"], "words"))
    save_vocabulary(pair, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, PairVocabulary)
    assert same(loaded.source, pair.source)
    assert same(loaded.target, pair.target)
    assert pair.sizes() == {"source_vocab_size": len(pair.source), "target_vocab_size": len(pair.target)}


@pytest.mark.parametrize(
    "broken",
    [{}, [], 5, {"symbols": ["a"]}, {"source": {"symbols": []}, "target": 3}, {"symbols": 3, "level": "words"}],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, broken):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"vocabulary\.json: not a vocabulary"):
        load_vocabulary(path)
