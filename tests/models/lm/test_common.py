"""Requirements on every language model whose state holds all that it has read."""

from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.decoding.protocol import StatefulModel
from attendgen.models.lm.common import StatefulLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.models.lm.transformer import TransformerLanguageModel
from attendgen.testing import check_model
from helpers.stepping import (
    assert_several_reads_equal_one,
)

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


def test_it_computes_one_function(model):
    check_model(model, pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5)))


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5)))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
