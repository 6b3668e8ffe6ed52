import json
import unicodedata
from collections import Counter

import pytest

from attendgen.text.levels import make_tokenizer
from attendgen.text.vocabulary import PairVocabulary, Vocabulary, load_vocabulary, save_vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS
from helpers.errors import refusal
from helpers.sentences import SENTENCES, collapse_spaces


@pytest.mark.parametrize("level", ["characters", "words"])
@pytest.mark.parametrize("text", SENTENCES)
def test_decode_inverts_encode_of_known_text(level, text):
    vocabulary = Vocabulary.build(SENTENCES, level)
    wanted = unicodedata.normalize("NFC", text)
    assert vocabulary.decode(vocabulary.encode(text)) == (wanted if level == "characters" else collapse_spaces(wanted))


def test_ids_are_in_order_of_frequency_after_the_special_tokens():
    vocabulary = Vocabulary.build(["abca", "cad"])
    assert vocabulary.tokens == ("<pad>", "<sos>", "<eos>", "<unk>", "a", "c", "b", "d")
    assert [vocabulary.ids[token] for token in ("<pad>", "<sos>", "<eos>")] == [PAD, SOS, EOS]
    assert [vocabulary.tokens[index] for index in vocabulary.encode("dab")] == ["d", "a", "b"]
    assert vocabulary.sizes() == {"vocab_size": len(vocabulary)}


@pytest.mark.parametrize("level", ["characters", "words", "caption"])
def test_a_frequency_that_no_token_has_is_refused(level):
    message = refusal(Vocabulary.build, ["a dog", "a cat"], level, min_frequency=100)
    most = {"characters": "'a', occurs 3 times", "words": "'a', occurs 2 times", "caption": "'a', occurs 2 times"}
    assert message.startswith("data.min_frequency=100: no token of the training texts is as frequent")
    assert most[level] in message
    assert len(Vocabulary.build([], level, min_frequency=100)) == 4


def test_special_tokens_that_a_text_spells_are_unknown():
    """Else a sentence would end at <eos>, and <pad> would be left out of it."""
    text = "<sos> a <pad> b <eos> c <unk>"
    vocabulary = Vocabulary.build([text], "pretokenized")
    known = [vocabulary.ids[token] for token in "abc"]
    unknown = vocabulary.unknown
    assert vocabulary.encode(text) == [unknown, known[0], unknown, known[1], unknown, known[2], unknown]


def test_a_negative_frequency_is_refused():
    assert refusal(make_tokenizer, "words", min_frequency=-1).startswith("data.min_frequency=-1: expected a whole")


def test_min_frequency_and_max_size_leave_out_rare_tokens():
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


def test_letters_have_no_unknown_token_and_drop_other_characters():
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
def test_spellings_with_one_normal_form_have_the_same_ids(normalizer, left, right):
    vocabulary = Vocabulary.build([left, right], normalizer=normalizer)
    assert vocabulary.encode(left) == vocabulary.encode(right)
    assert vocabulary.decode(vocabulary.encode(left)) == right


def test_normalizer_none_keeps_case():
    vocabulary = Vocabulary.build(["aA"])
    assert vocabulary.encode("a") != vocabulary.encode("A")


@pytest.mark.parametrize("text", ["", "  \n", "zzz"])
@pytest.mark.parametrize("normalizer", ["none", "letters"])
def test_encode_known_refuses_text_without_known_tokens(text, normalizer):
    vocabulary = Vocabulary.build(["ab ab"], "words", normalizer)
    with pytest.raises(UserError, match="prompt: "):
        vocabulary.encode_known(text, "prompt")
    assert vocabulary.encode_known("zzz ab", "prompt") == vocabulary.encode("zzz ab")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": ["a", "b", "a"]}, "'a' occurs twice"),
        ({"tokens": ["<eos>"]}, "'<eos>' occurs twice"),
        ({"tokens": [], "normalizer": "upper"}, "normalizer=upper"),
    ],
)
def test_impossible_vocabularies_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Vocabulary(**arguments)


def are_equal(left: Vocabulary, right: Vocabulary) -> bool:
    return left.to_dict() == right.to_dict()


@pytest.mark.parametrize("level", ["characters", "words", "caption"])
@pytest.mark.parametrize("normalizer", ["none", "lower", "fold", "letters"])
def test_saved_vocabulary_loads_the_same(tmp_path, level, normalizer):
    vocabulary = Vocabulary.build(SENTENCES, level, normalizer)
    save_vocabulary(vocabulary, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, Vocabulary)
    assert are_equal(loaded, vocabulary)
    assert loaded.encode(SENTENCES[0]) == vocabulary.encode(SENTENCES[0])


def test_saved_pair_loads_the_same(tmp_path):
    pair = PairVocabulary(Vocabulary.build(["ab"]), Vocabulary.build(["c d"], "words"))
    save_vocabulary(pair, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, PairVocabulary)
    assert are_equal(loaded.source, pair.source)
    assert are_equal(loaded.target, pair.target)
    assert pair.sizes() == {"source_vocab_size": len(pair.source), "target_vocab_size": len(pair.target)}


@pytest.mark.parametrize(
    "broken",
    [{}, [], 5, {"tokens": ["a"]}, {"source": {"tokens": []}, "target": 3}, {"tokens": 3, "level": "words"}],
)
def test_file_that_is_not_a_vocabulary_is_refused(tmp_path, broken):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"vocabulary\.json: not a vocabulary"):
        load_vocabulary(path)


def test_a_refusal_of_a_saved_vocabulary_names_the_file(tmp_path):
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({"tokens": ["a", "a"], "level": "words", "normalizer": "none"}))
    with pytest.raises(UserError, match=r"vocabulary\.json: tokens: 'a' occurs twice"):
        load_vocabulary(path)


@pytest.mark.parametrize("normalizer", ["none", "letters"])
def test_suppressed_tokens_are_the_special_ones(normalizer):
    vocabulary = Vocabulary.build(["ab"], normalizer=normalizer)
    specials = {"<pad>", "<sos>", "<unk>"} & set(vocabulary.tokens)
    assert {vocabulary.tokens[index] for index in vocabulary.suppressed()} == specials
    assert {vocabulary.tokens[index] for index in vocabulary.suppressed(eos=True)} == specials | {"<eos>"}


def test_from_counts_equals_build():
    texts = ["the cat the dog", "the cat a bird"]
    counts = Counter(" ".join(texts).split())
    for options in ({}, {"min_frequency": 2}, {"max_size": 3}):
        assert are_equal(
            Vocabulary.from_counts(counts, "words", **options), Vocabulary.build(texts, "words", **options)
        )
