from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.state import iterate_tensors
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.testing import check_model
from helpers.stepping import assert_rows_share_their_memory

VOCAB_SIZE = 8
VARIANTS = {
    "additive": {"attention": partial(AdditiveAttention, dim=6)},
    "general, two layers": {"attention": GeneralAttention, "layers": 2},
}
CONTEXTS = [[3, 4, 5, 6], [], [7], [5, 5]]
INPUTS = [[6, 3, 3, 4, 5], [1, 4], [7, 7, 3], [5]]


@pytest.fixture(params=VARIANTS)
def model(request):
    return ContextLanguageModel(
        VOCAB_SIZE, embedding_dim=5, encoder_hidden=4, hidden=6, dropout=0.5, **VARIANTS[request.param]
    ).eval()


def test_the_first_prediction_depends_on_every_character_of_the_context(model):
    inputs = torch.tensor([[6]])
    logits, _ = model(pad([CONTEXTS[0]]), inputs)
    for t in range(len(CONTEXTS[0])):
        changed = list(CONTEXTS[0])
        changed[t] = 7
        assert not torch.allclose(model(pad([changed]), inputs)[0], logits)


def test_an_empty_context_gives_a_zero_state_and_zero_contexts(model):
    inputs = torch.tensor([[1, 4, 5]])
    logits, alphas = model(pad([[]]), inputs)
    hidden, _ = model.decoder.recurrence(model.embedding(inputs))  # torch starts from zeros
    contexts = torch.zeros(1, 3, 2 * model.encoder.hidden_size)
    expected = model.output(torch.tanh(model.decoder.combine(torch.cat([contexts, hidden], dim=-1))))
    torch.testing.assert_close(logits, expected)
    assert not alphas.any()


def test_a_continuation_in_chunks_equals_one_call(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 7))
    memory, state = model.encode(context)
    whole, _, last = model.continue_from(inputs, state, memory)
    first, _, state = model.continue_from(inputs[:, :3], state, memory)
    second, _, state = model.continue_from(inputs[:, 3:], state, memory)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(tuple(iterate_tensors(state)), tuple(iterate_tensors(last)))


@pytest.mark.parametrize("time", [1, 3])
def test_hypotheses_share_the_memory_of_their_context(model, time):
    assert_rows_share_their_memory(model, pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (8, time)), model.continue_from)


def test_it_computes_one_function(model):
    check_model(model, pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5)))


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(CONTEXTS), pad(INPUTS))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
