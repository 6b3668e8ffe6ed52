"""Requirements on every language model whose state holds all that it has read."""

from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.decoding.protocol import StatefulModel
from attendgen.layers.plain import use_plain_autograd
from attendgen.models.lm.common import StatefulLanguageModel, align_right, read_at_once, read_by_length
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.models.lm.transformer import TransformerLanguageModel
from attendgen.testing import check_model
from attendgen.utils.special_tokens import PAD
from helpers.stepping import assert_several_reads_equal_one

VOCAB_SIZE = 8
LSTM = partial(LSTMLanguageModel, VOCAB_SIZE, embedding_dim=5, hidden=6, dropout=0.5)
Transformer = partial(TransformerLanguageModel, VOCAB_SIZE, dim=8, heads=2, layers=2, feed_forward=6, dropout=0.5)
MODELS = {
    "lstm": LSTM,
    "lstm, n-grams": partial(LSTM, ngrams=4, ngram_rows=30, ngram_dropout=0.5),
    "lstm, two layers, attention": partial(LSTM, layers=2, attention_window=3, attention_dim=4),
    "lstm, tied, attention to all states": partial(LSTM, tied=True, attention_window=20, attention_dim=4),
    "textgenerate": partial(TextGenerateLanguageModel, VOCAB_SIZE, hidden=6),
    "textgenerate, three layers": partial(TextGenerateLanguageModel, VOCAB_SIZE, hidden=3, layers=3),
    "transformer, short window": partial(Transformer, window=2),
    "transformer, tied, window longer than the text": partial(Transformer, window=20, tied=True),
}
CONTEXTS = [[3, 4, 5, 6, 2], [], [7], [5, 5]]


@pytest.fixture(params=MODELS)
def model(request) -> StatefulLanguageModel:
    return MODELS[request.param]().eval()


def test_it_has_the_interface_of_stateful_models(model):
    assert isinstance(model, StatefulModel)


@pytest.mark.parametrize("sizes", [(3, 4), (1, 1, 5), (1,) * 7])
def test_a_text_in_chunks_equals_one_call(model, sizes):
    assert_several_reads_equal_one(model, torch.randint(1, VOCAB_SIZE, (2, 7)), sizes)


def test_padded_contexts_equal_their_rows_one_by_one(model):
    inputs = pad([[2, 3, 3], [1, 4, 2], [7, 7, 3], [5, 2, 2]])
    logits, alphas = model(pad(CONTEXTS), inputs)
    for row, context in enumerate(CONTEXTS):
        read = torch.tensor([context[:-1] + inputs[row].tolist()])  # the last character is the first input
        alone, alpha, _ = model.read(read, model.initial_state(1))
        torch.testing.assert_close(logits[row], alone[0, -3:])
        torch.testing.assert_close(alphas[row], alpha[0, -3:])


@pytest.mark.parametrize("is_plain", [False, True])
def test_contexts_read_at_once_are_continued_like_those_read_by_length(model, is_plain):
    model.double()
    if is_plain:
        use_plain_autograd(model)
    context = pad([*CONTEXTS, [4] * 9])
    found, gradients = [], []
    for read in (read_by_length, read_at_once):
        logits, alphas, _ = model.read(torch.tensor([[3, 2], [5, 5]] * 2 + [[1, 1]]), read(model, context))
        found.append((logits, alphas))
        gradients.append(torch.autograd.grad(logits.square().sum(), list(model.parameters())))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


class OwnRead(LSTMLanguageModel):
    """Reads without masks, as a class of a user's own may."""

    def read(self, inputs, state):
        assert (inputs != PAD).all()
        return super().read(inputs, state)


@pytest.mark.parametrize("kind", [LSTMLanguageModel, OwnRead])
def test_a_gpu_reads_contexts_at_once_if_the_model_takes_a_mask(kind, monkeypatch):
    model = kind(VOCAB_SIZE, embedding_dim=5, hidden=6).eval()
    expected = model.encode(pad(CONTEXTS))
    monkeypatch.setattr("attendgen.models.lm.common.is_on_gpu", lambda tensor: True)
    if kind is LSTMLanguageModel:
        monkeypatch.setattr("attendgen.models.lm.common.read_by_length", None)
    torch.testing.assert_close(model.encode(pad(CONTEXTS)), expected)


def test_padding_moves_to_the_left():
    assert align_right(pad([[1, 2, 3], [4], []])).tolist() == [[1, 2, 3], [PAD, PAD, 4], [PAD] * 3]


def test_it_computes_one_function(model):
    check_model(model, pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5)))


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5)))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
