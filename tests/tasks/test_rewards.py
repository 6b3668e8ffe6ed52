"""Which vocabularies have rewards that are computed from tokens."""

import pytest
import torch

from attendgen.metrics.token_cider import TokenCiderD
from attendgen.tasks.rewards import TextCiderD, list_words, make_reward
from attendgen.text.subwords import BPETokenizer
from attendgen.text.vocabulary import Vocabulary

TEXTS = ["a dog runs", "the dog sits on a man's hat"]


def test_words_of_captions_are_those_of_the_scores():
    vocabulary = Vocabulary.build(TEXTS, "caption")
    words = list_words(vocabulary)
    assert words is not None
    assert words[:4] == [[], [], ["<eos>"], ["<unk>"]]
    assert words[vocabulary.ids["man's"]] == ["man", "'s"]
    assert words[vocabulary.ids["dog"]] == ["dog"]


@pytest.mark.parametrize(
    "vocabulary",
    [
        pytest.param(Vocabulary.build(TEXTS, "characters"), id="characters"),
        pytest.param(Vocabulary.build(TEXTS, tokenizer=BPETokenizer(30)), id="subwords"),
        pytest.param(Vocabulary.build(["a dog, a cat."], "words"), id="punctuation"),
        pytest.param(Vocabulary.build([*TEXTS, "犬が走る"], "caption"), id="letters without blanks"),
    ],
)
def test_other_vocabularies_are_scored_by_their_texts(vocabulary):
    assert list_words(vocabulary) is None
    reward = make_reward({0: TEXTS, 1: ["a cat"]}, vocabulary)
    assert isinstance(reward, TextCiderD)
    caption = [*vocabulary.encode(TEXTS[0]), 2]
    scores = reward(torch.tensor([0, 1]), torch.tensor([[caption], [caption]]))
    assert scores.shape == (2, 1)
    assert scores[0] > scores[1]


def test_both_rewards_agree():
    vocabulary = Vocabulary.build(TEXTS, "caption")
    references = {0: TEXTS, 1: ["a cat"]}
    reward = make_reward(references, vocabulary)
    assert isinstance(reward, TokenCiderD)
    images, tokens = torch.tensor([1, 0]), torch.randint(2, len(vocabulary), (2, 4, 7))
    torch.testing.assert_close(reward(images, tokens), TextCiderD(references, vocabulary)(images, tokens))
