import pytest
import torch

from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.utils.special_tokens import PAD
from helpers.errors import refusal

VOCAB_SIZE, ROWS, TIME = 8, 2, 7
OPTIONS = {"embedding_dim": 5, "hidden": 6, "layers": 2}


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(1, VOCAB_SIZE, (ROWS, TIME))


def test_the_plain_model_is_embedding_lstm_and_output_layer(inputs):
    model = LSTMLanguageModel(VOCAB_SIZE, **OPTIONS).eval()
    hidden, last = model.lstm(model.embedding(inputs))
    logits, alphas, state = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close(logits, model.output(hidden))
    torch.testing.assert_close(tuple(state.lstm), tuple(part.transpose(0, 1) for part in last))
    assert alphas.shape == (ROWS, TIME, 0)


def test_n_gram_embeddings_are_added_to_those_of_characters(inputs):
    model = LSTMLanguageModel(VOCAB_SIZE, ngrams=3, ngram_rows=20, **OPTIONS).eval()
    vectors, recent = model.ngrams(inputs, torch.full((ROWS, 2), PAD))
    hidden, _ = model.lstm(model.embedding(inputs) + vectors)
    logits, _, state = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close(logits, model.output(hidden))
    assert torch.equal(state.recent, recent)


def test_the_attention_context_is_added_to_the_hidden_state(inputs):
    model = LSTMLanguageModel(VOCAB_SIZE, attention_window=3, attention_dim=4, **OPTIONS).eval()
    hidden, _ = model.lstm(model.embedding(inputs))
    context, expected, _ = model.attention(hidden, model.attention.initial_window(ROWS))
    logits, alphas, _ = model.read(inputs, model.initial_state(ROWS))
    torch.testing.assert_close(logits, model.output(hidden + context))
    torch.testing.assert_close(alphas, expected)
    assert context.any()


def test_a_tied_output_layer_shares_the_weights_of_the_embedding(inputs):
    model = LSTMLanguageModel(VOCAB_SIZE, tied=True, **OPTIONS).eval()
    assert model.output.weight is model.embedding.weight
    hidden, _ = model.lstm(model.embedding(inputs))
    logits, _, _ = model.read(inputs, model.initial_state(ROWS))
    expected = torch.tanh(model.readout(hidden)) @ model.embedding.weight.T + model.output.bias
    torch.testing.assert_close(logits, expected)


def test_n_gram_tables_without_rows_are_refused():
    assert "model.ngram_rows=0: expected 1 or more" in refusal(LSTMLanguageModel, VOCAB_SIZE, ngrams=3, ngram_rows=0)
