import pytest
import torch

from attendgen.layers.ngram_embedding import NGramEmbedding
from attendgen.utils.special_tokens import PAD

LONGEST, ROWS, DIM = 4, 50, 3


@pytest.fixture
def ngrams() -> NGramEmbedding:
    return NGramEmbedding(DIM, LONGEST, ROWS).eval()


def look_up(ngrams: NGramEmbedding, text: list[int], position: int) -> torch.Tensor:
    """Return the sum of vectors at one position; each n-gram is hashed from its last token to its first in integers."""
    total = torch.zeros(DIM)
    for length in range(2, LONGEST + 1):
        gram = [text[i] if i >= 0 else PAD for i in range(position, position - length, -1)]
        hashed = 0
        for token in gram:
            hashed = (hashed * 1_640_531_527 + token + 1) % (2**31 - 1)
        total += ngrams.tables[length - 2].weight[hashed % ROWS]
    return total


def test_each_position_has_the_vectors_of_the_n_grams_that_end_there(ngrams):
    texts = torch.randint(1, 100, (3, 9))
    found, recent = ngrams(texts, torch.full((3, LONGEST - 1), PAD))
    expected = torch.stack([torch.stack([look_up(ngrams, row, t) for t in range(9)]) for row in texts.tolist()])
    torch.testing.assert_close(found, expected)
    assert torch.equal(recent, texts[:, -3:])


@pytest.mark.parametrize("sizes", [(1,) * 7, (2, 5), (6, 1)])
def test_a_text_in_chunks_equals_the_whole_text(ngrams, sizes):
    text = torch.randint(1, 9, (2, 7))
    recent = torch.full((2, LONGEST - 1), PAD)
    whole, _ = ngrams(text, recent)
    parts = []
    for chunk in text.split(sizes, dim=1):
        vectors, recent = ngrams(chunk, recent)
        parts.append(vectors)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("rows", [10_000, 2**14])
def test_different_n_grams_have_different_vectors(rows):
    wide = NGramEmbedding(DIM, 2, rows)
    pairs = torch.tensor([[a, b] for a in range(1, 20) for b in range(1, 20)])
    vectors, _ = wide(pairs[:, 1:], pairs[:, :1])
    assert len(vectors.flatten(0, 1).unique(dim=0)) > 0.9 * len(pairs)


def test_dropout_sets_whole_vectors_to_zero():
    ngrams = NGramEmbedding(DIM, 2, ROWS, dropout=0.25)
    text = torch.randint(1, 9, (40, 50))
    recent = torch.full((40, 1), PAD)
    exact, _ = ngrams.eval()(text, recent)
    vectors, _ = ngrams.train()(text, recent)
    dropped = (vectors == 0).all(dim=-1)
    assert 0.2 < dropped.float().mean() < 0.3
    torch.testing.assert_close(vectors[~dropped], exact[~dropped] / 0.75)
