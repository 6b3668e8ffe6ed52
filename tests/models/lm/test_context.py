from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.state import iterate_tensors, to_float32
from attendgen.models.lm.context import ContextLanguageModel
from helpers.stepping import assert_rows_share_their_memory, assert_stepping_equals_teacher_forcing

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


def test_a_padded_batch_equals_its_rows_one_by_one(model):
    logits, alphas = model(pad(CONTEXTS), pad(INPUTS))
    for row, (context, inputs) in enumerate(zip(CONTEXTS, INPUTS, strict=True)):
        alone, alpha = model(pad([context]), pad([inputs]))
        torch.testing.assert_close(logits[row, : len(inputs)], alone[0])
        length = max(len(context), 1)
        torch.testing.assert_close(alphas[row, : len(inputs), :length], alpha[0])
        assert not alphas[row, :, len(context) :].any()


def test_no_prediction_depends_on_a_later_character(model):
    context, inputs = pad([CONTEXTS[0]]), torch.randint(1, VOCAB_SIZE, (1, 6))
    logits, alphas = model(context, inputs)
    for t in range(6):
        changed = inputs.clone()
        changed[0, t] = (changed[0, t] + 1) % VOCAB_SIZE
        other, alpha = model(context, changed)
        torch.testing.assert_close((other[:, :t], alpha[:, :t]), (logits[:, :t], alphas[:, :t]), rtol=0, atol=0)
        assert not torch.allclose(other[:, t], logits[:, t])


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


def test_step_by_step_equals_teacher_forcing(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5))
    assert_stepping_equals_teacher_forcing(model, context, inputs, model(context, inputs))


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


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(CONTEXTS), pad(INPUTS))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_steps_in_half_precision_are_close(model):
    context, inputs = pad(CONTEXTS), torch.randint(1, VOCAB_SIZE, (4, 5))
    expected, _ = model(context, inputs)
    model.bfloat16()
    memory, state = model.encode(context)
    memory, state = to_float32(memory), to_float32(state)  # as in decoding
    for t in range(inputs.size(1)):
        log_probs, _, state = model.step(inputs[:, t], state, memory)
        torch.testing.assert_close(log_probs, expected[:, t].log_softmax(dim=-1), atol=0.05, rtol=0.05)
