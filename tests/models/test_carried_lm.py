from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.decoding.beam import beam_search
from attendgen.decoding.protocol import PieceReader
from attendgen.decoding.search import single
from attendgen.errors import UserError
from attendgen.layers.attention import Additive, General
from attendgen.models.carried_lm import CarriedContextLM
from attendgen.models.lm import ContextLM
from attendgen.vocabulary import PAD, SOS
from stepping import (
    assert_no_future_character_leaks,
    assert_rows_share_their_memory,
    assert_several_reads_equal_one,
    assert_stepping_equals_teacher_forcing,
)

SYMBOLS, WINDOW, PIECE = 8, 5, 3
SIZES = {"embedding": 5, "encoder": 4, "hidden": 6, "dropout": 0.5, "weight_drop": 0.5}
VARIANTS = {
    "general": {"attention": General},
    "additive, two layers": {"attention": partial(Additive, dim=6), "layers": 2},
    "general, attention to its own past": {"attention": General, "reach": 4, "head": 4},
}


@pytest.fixture(params=VARIANTS)
def model(request) -> CarriedContextLM:
    return CarriedContextLM(SYMBOLS, window=WINDOW, piece=PIECE, **SIZES, **VARIANTS[request.param]).eval()


def text(rows: int, time: int) -> torch.Tensor:
    return torch.cat([torch.full((rows, 1), SOS), torch.randint(3, SYMBOLS, (rows, time - 1))], dim=1)


def test_it_reads_on_piece_by_piece(model):
    assert isinstance(model, PieceReader)


def test_pieces_equal_a_plain_computation(model):
    inputs = text(1, 11)
    found, alphas, _ = model.read(inputs, model.blank(1))
    # the recurrence over the whole text; a window to attend to for each character
    zero = torch.zeros(model.layers, 1, model.decoder.hidden_size)
    hidden, _ = model.decoder(model.embedding(inputs), (zero, zero))
    if model.past is not None:
        hidden = hidden + model.past(hidden, model.past.blank(1))[0]
    for t in range(11):
        first = t // PIECE * PIECE  # of the piece's inputs, and the last character of its window
        window = inputs[:, max(0, first + 1 - WINDOW) : first + 1]
        values, _ = model.encoder(model.embedding(window))
        context, alpha = model.attention(hidden[:, t : t + 1], model.attention.project(values), values, None)
        logits = model.output(torch.tanh(model.combine(torch.cat([hidden[:, t : t + 1], context], dim=-1))))
        torch.testing.assert_close(found[:, t], logits[:, 0])
        torch.testing.assert_close(alphas[:, t, : window.size(1)], alpha[:, 0])
        assert not alphas[:, t, window.size(1) :].any()


@pytest.mark.parametrize("calls", [(3, 9), (6, 6), (3, 3, 3, 3), (9, 3)])
def test_whole_pieces_in_several_calls_equal_one(model, calls):
    assert_several_reads_equal_one(model, text(2, 12), calls)


def test_no_future_character_leaks(model):
    assert_no_future_character_leaks(model, text(2, 11), SYMBOLS)


def test_what_lies_before_the_window_counts(model):
    inputs = text(1, 12)
    changed = inputs.clone()
    changed[0, 1] = inputs[0, 1] % 4 + 3
    assert not torch.allclose(
        model.read(inputs, model.blank(1))[0][:, -1], model.read(changed, model.blank(1))[0][:, -1]
    )


def test_step_by_step_equals_teacher_forcing(model):
    context = pad([[3, 4, 5, 6, 2, 7, 7, 4, 3], [], [7], [5, 5]])
    inputs = torch.cat([torch.tensor([[3], [SOS], [7], [5]]), torch.randint(3, SYMBOLS, (4, PIECE - 1))], dim=1)
    assert_stepping_equals_teacher_forcing(model, context, inputs, model(context, inputs))


def test_a_start_goes_on_from_the_one_before(model):
    first = text(2, 1 + PIECE)
    more = torch.randint(3, SYMBOLS, (2, PIECE))
    _, state = model.start(first)
    memory, state = model.start(torch.cat([first[:, -1:], more], dim=1), state)
    expected, after = model.start(torch.cat([first, more], dim=1))
    torch.testing.assert_close(tuple(memory), tuple(expected))
    torch.testing.assert_close(tuple(state), tuple(after))


def test_steps_leave_the_state_that_reading_does(model):
    inputs = text(2, PIECE)
    memory, state = model.look(inputs[:, 0], model.blank(2)), model.blank(2)
    for tokens in inputs.unbind(1):
        _, _, state = model.step(tokens, state, memory)
    torch.testing.assert_close(tuple(state), tuple(model.read(inputs, model.blank(2))[2]))


def test_half_precision_is_close(model):
    context, inputs = text(3, 9), torch.randint(3, SYMBOLS, (3, 2))
    expected, _ = model(context, torch.cat([context[:, -1:], inputs], dim=1))
    model.bfloat16()
    memory, state = model.start(context)
    memory, state = single(memory), single(state)  # as a search has them
    for t, tokens in enumerate([context[:, -1], *inputs.unbind(1)]):
        log_probs, _, state = model.step(tokens, state, memory)
        torch.testing.assert_close(log_probs, expected[:, t].log_softmax(dim=-1), atol=0.05, rtol=0.05)
    _, after = model.start(torch.cat([context[:, -1:], inputs], dim=1), state)  # in single precision, too
    assert after.hidden.isfinite().all()


def test_padding_counts_for_nothing(model):
    inputs = text(2, 7)
    inputs[1, 4:] = PAD
    logits, _, _ = model.read(inputs, model.blank(2))
    torch.testing.assert_close(logits[:1], model.read(inputs[:1], model.blank(1))[0])
    torch.testing.assert_close(logits[1:, :4], model.read(inputs[1:, :4], model.blank(1))[0])


@torch.inference_mode()
def test_a_beams_rows_keep_their_own_state(model):
    context = torch.randint(3, SYMBOLS, (3, 7))
    memory, state = model.start(context)
    found = beam_search(model, memory, state, PIECE, width=4, n_best=4, first=context[:, -1], stop=None)
    for row, n in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        tokens = found.tokens[row, n]
        inputs = torch.cat([context[row, -1:], tokens[:-1]]).unsqueeze(0)
        logits, alphas = model(context[row : row + 1], inputs)
        log_probs = logits[0].log_softmax(dim=-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(found.log_probs[row, n], log_probs)
        torch.testing.assert_close(found.attention[row, n], alphas[0])


def test_hypotheses_share_their_context(model):
    context, tokens = torch.randint(3, SYMBOLS, (2, 7)), torch.randint(3, SYMBOLS, (6,))
    assert_rows_share_their_memory(model, context, tokens, model.step)


def test_every_parameter_learns(model):
    logits, _, _ = model.train().read(text(4, 9), model.blank(4))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


def test_its_weights_are_named_as_those_of_windows(model):
    windows = ContextLM(SYMBOLS, General, **SIZES).state_dict()
    ours = CarriedContextLM(SYMBOLS, General, **SIZES).state_dict()
    assert windows.keys() - ours.keys() == {"bridge.weight", "bridge.bias"}
    assert not ours.keys() - windows.keys()


@pytest.mark.parametrize("sizes", [{"window": 0}, {"piece": 0}])
def test_an_empty_window_or_piece_is_refused(sizes):
    with pytest.raises(UserError, match=f"model.{next(iter(sizes))}=0"):
        CarriedContextLM(SYMBOLS, General, **SIZES, **sizes)
