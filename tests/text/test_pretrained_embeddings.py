import gzip

import pytest
import torch

from attendgen.text.pretrained_embeddings import PretrainedEmbeddings
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError

VECTORS = "dog 1 2 3\nunseen 9 9 9\nécole -0.5 1e-3 0\n"


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(["dog", "cat", "école"], "words")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(VECTORS, encoding="utf-8")
    return path


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("header", ["", "3 3\n"])
def test_known_words_have_their_vectors_and_are_trained_unless_frozen(vocabulary, file, freeze, header):
    file.write_text(header + VECTORS, encoding="utf-8")
    embedding = torch.nn.Embedding(len(vocabulary), 3)
    before = embedding.weight.detach().clone()
    assert PretrainedEmbeddings(str(file), freeze).initialize(embedding, vocabulary) == 2
    dog, cat, school = (vocabulary.ids[word] for word in ("dog", "cat", "école"))
    assert embedding.weight[dog].tolist() == [1.0, 2.0, 3.0]
    torch.testing.assert_close(embedding.weight[school], torch.tensor([-0.5, 0.001, 0.0]))
    torch.testing.assert_close(embedding.weight[:dog], before[:dog])
    embedding.weight.square().sum().backward()
    torch.optim.SGD([embedding.weight], lr=0.1).step()
    assert (embedding.weight[dog].tolist() == [1.0, 2.0, 3.0]) == freeze
    assert not torch.equal(embedding.weight[cat], before[cat])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2\n", "vectors of 2 numbers, but model.embedding_dim=3; set it to 2"),
        ("2 4\ndog 1 2 3 4\nat a 1 2 3 4\n", "vectors of 4 numbers, but model.embedding_dim=3; set it to 4"),
        ("cat 1 2 3\ndog 1 two 3\n", "line 2: expected a word and its numbers"),
        ("cat 1 2 3\ndog 1 nan 3\n", "line 2: expected a word and its numbers"),
        ("dog 1 2 inf\n", "line 1: expected a word and its numbers"),
        ("bird 1 2 3\n", "none of the vocabulary's"),
        ("", "none of the vocabulary's"),
    ],
)
def test_bad_file_is_refused(vocabulary, file, text, message):
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        PretrainedEmbeddings(str(file)).initialize(torch.nn.Embedding(len(vocabulary), 3), vocabulary)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_words_with_blanks_and_repeated_words_as_in_glove(file):
    vocabulary = Vocabulary(["at", "dog", "at name@domain.com"], "words")
    file.write_text("at 1 2 3 \nat name@domain.com 7 8 9\ndog 4 5 6\ndog 0 0 0\n. . . 1 1 1\n", encoding="utf-8")
    found = PretrainedEmbeddings(str(file)).read(vocabulary, 3)
    words = {vocabulary.tokens[index]: vector.tolist() for index, vector in found.items()}
    assert words == {"at": [1, 2, 3], "at name@domain.com": [7, 8, 9], "dog": [4, 5, 6]}


def test_missing_file_is_refused(vocabulary, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        PretrainedEmbeddings(str(tmp_path / "nowhere.txt")).initialize(
            torch.nn.Embedding(len(vocabulary), 3), vocabulary
        )


def test_file_in_another_encoding_is_refused(vocabulary, file):
    file.write_bytes("école 1 2 3\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        PretrainedEmbeddings(str(file)).initialize(torch.nn.Embedding(len(vocabulary), 3), vocabulary)


def test_packed_file_is_refused_and_a_byte_order_mark_is_no_part_of_a_word(vocabulary, file):
    file.write_bytes(b"\xef\xbb\xbf" + VECTORS.encode())
    assert vocabulary.ids["dog"] in PretrainedEmbeddings(str(file)).read(vocabulary, 3)
    file.write_bytes(gzip.compress(VECTORS.encode()))
    with pytest.raises(UserError, match=r"vectors\.txt: a packed file \(gzip\)"):
        PretrainedEmbeddings(str(file)).read(vocabulary, 3)
