"""CIDEr-D of tokens against CIDEr-D of their texts."""

import random

import pytest
import torch

from attendgen.metrics.cider import CiderD
from attendgen.metrics.token_cider import TokenCiderD
from attendgen.tasks.rewards import list_words
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.special_tokens import EOS, PAD
from helpers.pretended_gpu import pretend, pretended_gpu

# "man's" is two words for the scores, "cannot" too, and "'" none
VOCABULARY = Vocabulary([*"abcdefgh", "man's", "cannot", "'", "new"], "caption")
A, B, C, D, NEW = (VOCABULARY.ids[word] for word in ("a", "b", "c", "d", "new"))
UNKNOWN = 3
REFERENCES = {
    0: ["a b c d e", "A b a b a b a b!", "a man's b can't wait"],  # "wait" is not in the vocabulary
    1: ["the zebra cannot a b."],
    2: ["a", "", ".", "a b"],
    4: ["f g h f g h", "<unk> a <unk> a, wait wait"],  # no reference of an image 3
}
IMAGES = [1, 0, 4, 2]


def compute_expected(images: list[int], tokens: list[list[list[int]]]) -> torch.Tensor:
    reward = CiderD(REFERENCES, end=True)
    return torch.tensor(
        [
            [reward(image, VOCABULARY.decode(caption), EOS in caption) for caption in captions]
            for image, captions in zip(images, tokens, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def reward() -> TokenCiderD:
    words = list_words(VOCABULARY)
    assert words is not None
    return TokenCiderD(REFERENCES, words)


@pytest.mark.parametrize(
    "caption",
    [
        pytest.param([A, B, C, D, EOS, PAD], id="ended"),
        pytest.param([A, B, C, D, A, B], id="not ended"),
        pytest.param([A, B, A, B, A, EOS], id="repeated n-grams"),
        pytest.param([A, NEW, A, NEW, A, NEW], id="repeated n-grams of no reference"),
        pytest.param([NEW, NEW, EOS, PAD, PAD, PAD], id="a word of no reference"),
        pytest.param([A, UNKNOWN, A, EOS, PAD, PAD], id="an unknown word"),
        pytest.param([EOS, PAD, PAD, PAD, PAD, PAD], id="empty"),
        pytest.param([A, EOS, PAD, PAD, PAD, PAD], id="short"),
        pytest.param([A, EOS, B, C, D, EOS], id="tokens after the end"),
        pytest.param([PAD, A, PAD, 1, B, EOS], id="tokens of no text"),
        pytest.param([VOCABULARY.ids["man's"], B, VOCABULARY.ids["cannot"], A, B, EOS], id="tokens of two words"),
        pytest.param([A, VOCABULARY.ids["'"], B, VOCABULARY.ids["'"], C, EOS], id="tokens without a word"),
        pytest.param([VOCABULARY.ids["'"], EOS, PAD, PAD, PAD, PAD], id="no word"),
        pytest.param([A], id="one token"),
    ],
)
def test_equals_cider_of_the_text(reward, caption):
    found = reward(torch.tensor(IMAGES), torch.tensor([[caption]] * len(IMAGES)))
    torch.testing.assert_close(found, compute_expected(IMAGES, [[caption]] * len(IMAGES)), rtol=0, atol=1e-5)


def test_equals_cider_of_random_texts(reward):
    random.seed(1)
    images = random.choices(IMAGES, k=40)
    likely = [*[A, B, C] * 6, *range(EOS, len(VOCABULARY))]
    tokens = [[random.choices(likely, k=12) for _ in range(5)] for _ in images]
    tokens[0][0] = VOCABULARY.encode(REFERENCES[images[0]][0])[:11] + [EOS] * 12
    tokens[0][0] = tokens[0][0][:12]
    expected = compute_expected(images, tokens)
    assert (expected > 0).float().mean() > 0.5
    torch.testing.assert_close(reward(torch.tensor(images), torch.tensor(tokens)), expected, rtol=0, atol=1e-5)


def test_references_are_scored_best(reward):
    caption = [*VOCABULARY.encode("a b c d e"), EOS]
    expected = compute_expected([0], [[caption]])
    assert expected > 3  # of 10: a third for one of three references
    torch.testing.assert_close(reward(torch.tensor([0]), torch.tensor([[caption]])), expected)


@pytest.mark.parametrize("references", [{0: ["", "."]}, {0: ["a"], 1: ["b c"]}])
def test_captions_without_long_n_grams(references):
    words = list_words(VOCABULARY)
    tokens = torch.tensor([[[A, EOS, PAD], [EOS, PAD, PAD], [B, C, D]]])
    cider = CiderD(references, end=True)
    expected = [cider(0, VOCABULARY.decode(caption), EOS in caption) for caption in tokens[0].tolist()]
    found = TokenCiderD(references, words)(torch.tensor([0]), tokens)
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=0, atol=1e-5)


def test_the_host_does_not_wait_for_a_gpu(reward):
    images, tokens = torch.tensor(IMAGES), torch.randint(EOS, len(VOCABULARY), (4, 3, 9))
    expected = reward(images, tokens)
    with pretended_gpu() as record:
        for _ in range(2):
            found = reward(pretend(images), pretend(tokens))
    assert not record.waits
    torch.testing.assert_close(found.held, expected)
    torch.testing.assert_close(reward(images, tokens), expected)  # the tables come back
