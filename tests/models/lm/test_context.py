from functools import partial

import pytest
import torch
from attendgen.decoding.search import single

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.models.lm.context import ContextLanguageModel
from helpers.stepping import assert_rows_share_their_memory, assert_stepping_equals_teacher_forcing

SYMBOLS = 8
VARIANTS = {
    "additive": {"attention": partial(AdditiveAttention, dim=6)},
    "general, two layers": {"attention": GeneralAttention, "layers": 2},
    "general, attention to its own past": {
        "attention": GeneralAttention,
        "attention_window": 3,
        "attention_dim": 4,
        "weight_drop": 0.5,
    },
}
CONTEXTS = [[3, 4, 5, 6], [], [7], [5, 5]]
INPUTS = [[6, 3, 3, 4, 5], [1, 4], [7, 7, 3], [5]]


@pytest.fixture(params=VARIANTS)
def model(request):
    return ContextLanguageModel(
        SYMBOLS, embedding_dim=5, encoder_hidden=4, hidden=6, dropout=0.5, **VARIANTS[request.param]
    ).eval()


def test_a_padded_batch_equals_its_rows_one_by_one(model):
    logits, alphas = model(pad(CONTEXTS), pad(INPUTS))
    for row, (context, inputs) in enumerate(zip(CONTEXTS, INPUTS, strict=True)):
        alone, alpha = model(pad([context]), pad([inputs]))
        torch.testing.assert_close(logits[row, : len(inputs)], alone[0])
        length = max(len(context), 1)
        torch.testing.assert_close(alphas[row, : len(inputs), :length], alpha[0])
        assert not alphas[row, :, len(context) :].any()


def test_no_future_character_leaks(model):
    context, inputs = pad([CONTEXTS[0]]), torch.randint(1, SYMBOLS, (1, 6))
    logits, alphas = model(context, inputs)
    for t in range(6):
        changed = inputs.clone()
        changed[0, t] = (changed[0, t] + 1) % SYMBOLS
        other, alpha = model(context, changed)
        torch.testing.assert_close((other[:, :t], alpha[:, :t]), (logits[:, :t], alphas[:, :t]), rtol=0, atol=0)
        assert not torch.allclose(other[:, t], logits[:, t])


def test_the_whole_context_counts_from_the_first_prediction(model):
    inputs = torch.tensor([[6]])
    logits, _ = model(pad([CONTEXTS[0]]), inputs)
    for t in range(len(CONTEXTS[0])):
        changed = list(CONTEXTS[0])
        changed[t] = 7
        assert not torch.allclose(model(pad([changed]), inputs)[0], logits)


def test_an_empty_context_equals_nothing_to_attend(model):
    inputs = torch.tensor([[1, 4, 5]])
    logits, alphas = model(pad([[]]), inputs)
    hidden, _ = model.decoder(model.embedding_dim(inputs))  # torch starts from zeros
    if model.past is not None:
        hidden = hidden + model.past(hidden, model.past.initial_state(1))[0]
    nothing = torch.zeros(1, 3, 2 * model.encoder.hidden_size)
    expected = model.output(torch.tanh(model.combine(torch.cat([hidden, nothing], dim=-1))))
    torch.testing.assert_close(logits, expected)
    assert not alphas.any()


def test_step_by_step_equals_teacher_forcing(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, SYMBOLS, (4, 5))
    assert_stepping_equals_teacher_forcing(model, context, inputs, model(context, inputs))


def test_text_in_pieces_equals_text_in_one(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, SYMBOLS, (4, 7))
    memory, state = model.encode(context)
    whole, _, last = model.decode(inputs, state, memory)
    first, _, state = model.decode(inputs[:, :3], state, memory)
    second, _, state = model.decode(inputs[:, 3:], state, memory)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(tuple(state), tuple(last))


@pytest.mark.parametrize("time", [1, 3])
def test_hypotheses_share_their_context(model, time):
    assert_rows_share_their_memory(model, pad(CONTEXTS), torch.randint(1, SYMBOLS, (8, time)), model.decode)


def test_every_parameter_learns(model):
    logits, _ = model.train()(pad(CONTEXTS), pad(INPUTS))
    logits.square().sum().backward()
    still = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert still == []


def test_half_precision_steps_are_close(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, SYMBOLS, (4, 5))
    expected, _ = model(context, inputs)
    model.bfloat16()
    memory, state = model.encode(context)
    memory, state = single(memory), single(state)  # as a search has them
    for t in range(inputs.size(1)):
        log_probs, _, state = model.step(inputs[:, t], state, memory)
        torch.testing.assert_close(log_probs, expected[:, t].log_softmax(dim=-1), atol=0.05, rtol=0.05)
