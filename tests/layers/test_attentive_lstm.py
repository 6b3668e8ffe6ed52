from functools import partial

import pytest
import torch

from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.attentive_lstm import AttentiveLSTM
from attendgen.layers.hard_attention import argmax
from attendgen.layers.lstm import BidirectionalLSTM
from attendgen.layers.state import LSTMState, Memory
from attendgen.utils.errors import UserError

INPUTS, HIDDEN, MEMORY, SOURCE, TIME = 3, 5, 4, 6, 7


@pytest.fixture(params=["none", "scalar", "vector"])
def layer(request):
    return AttentiveLSTM(INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8), context_gate=request.param)


def remember(layer: AttentiveLSTM, values: torch.Tensor, mask: torch.Tensor | None = None) -> Memory:
    return Memory(layer.attention.keys(values), values, mask)


def cell_of(layer: AttentiveLSTM) -> torch.nn.LSTMCell:
    """torch's own cell over [x, z] with the layer's weights."""
    cell = torch.nn.LSTMCell(INPUTS + MEMORY, HIDDEN)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.cat([layer.project.weight, layer.recurrent.weight[:, :MEMORY]], dim=1))
        cell.weight_hh.copy_(layer.recurrent.weight[:, MEMORY:])
        cell.bias_ih.copy_(layer.project.bias)
        cell.bias_hh.zero_()
    return cell


def test_equals_torchs_cell_fed_the_input_and_the_context(layer):
    batch = 3
    values = torch.randn(batch, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4, 1]).unsqueeze(1)
    memory = remember(layer, values, mask)
    x = torch.randn(batch, TIME, INPUTS)
    hidden, cell = torch.randn(batch, HIDDEN), torch.randn(batch, HIDDEN)
    states, contexts, alphas, _ = layer(x, LSTMState(hidden, cell), memory)
    reference = cell_of(layer)
    for t in range(TIME):
        context, alpha = layer.attention(hidden.unsqueeze(1), *memory)
        context = context.squeeze(1)
        if layer.gate is not None:
            context = torch.sigmoid(hidden @ layer.gate.weight.T + layer.gate.bias) * context
            assert layer.gate.weight.size(0) in (1, MEMORY)
        hidden, cell = reference(torch.cat([x[:, t], context], dim=1), (hidden, cell))
        torch.testing.assert_close(states[:, t], hidden)
        torch.testing.assert_close(contexts[:, t], context)
        torch.testing.assert_close(alphas[:, t], alpha.squeeze(1))


def test_rows_that_share_a_memory_equal_a_repeated_memory(layer):
    batch, group = 2, 3
    values = torch.randn(batch, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4]).unsqueeze(1)
    x = torch.randn(batch * group, TIME, INPUTS)
    state = LSTMState(torch.randn(batch * group, HIDDEN), torch.randn(batch * group, HIDDEN))
    shared = layer(x, state, remember(layer, values, mask))
    repeated = remember(layer, values.repeat_interleave(group, dim=0), mask.repeat_interleave(group, dim=0))
    for left, right in zip(shared, layer(x, state, repeated), strict=True):
        torch.testing.assert_close(left, right)


def test_step_by_step_equals_all_at_once(layer):
    memory = remember(layer, torch.randn(2, SOURCE, MEMORY))
    x = torch.randn(2, TIME, INPUTS)
    state = LSTMState(torch.randn(2, HIDDEN), torch.randn(2, HIDDEN))
    hidden, contexts, alphas, _ = layer(x, state, memory)
    for t in range(TIME):
        state, context, alpha, _ = layer.step(layer.keys(x[:, t]), state, memory)
        torch.testing.assert_close((state.hidden, context, alpha), (hidden[:, t], contexts[:, t], alphas[:, t]))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("select", [None, argmax], ids=["soft", "hard"])
@pytest.mark.parametrize("read", [False, True])
def test_all_at_once_has_the_gradient_of_step_by_step(layer, early, select, read, monkeypatch):
    if early and not layer.commutes:
        pytest.skip("a vector gate is multiplied before the weight")
    layer.double()
    monkeypatch.setattr(layer, "_early", lambda memory, asked: early)
    values = torch.randn(2, SOURCE, MEMORY, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4]).unsqueeze(1)
    x = torch.randn(6, TIME, INPUTS, dtype=torch.float64, requires_grad=True)
    first = [torch.randn(6, HIDDEN, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    readout = torch.randn(3, MEMORY, dtype=torch.float64, requires_grad=True)
    at_once = layer(x, LSTMState(*first), remember(layer, values, mask), select, readout if read else None)
    state, memory, steps = LSTMState(*first), remember(layer, values, mask), []
    for t in range(TIME):
        state, context, *rest = layer.step(layer.keys(x[:, t]), state, memory, select)
        steps.append((state.hidden, context @ readout.T if read else context, *rest))
    by_step = [torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)]
    weights = [torch.randn_like(part) for part in by_step]
    found, expected = (
        torch.autograd.grad(
            sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)),
            [*layer.parameters(), values, x, *first, *[readout] * read],
        )
        for parts in (at_once, by_step)
    )
    torch.testing.assert_close(tuple(at_once), tuple(by_step))
    torch.testing.assert_close(found, expected)


def test_the_weight_is_multiplied_early_where_that_is_less_work():
    layer = AttentiveLSTM(INPUTS, HIDDEN, 1280, partial(AdditiveAttention, dim=8), context_gate="scalar")
    regions = remember(layer, torch.randn(1, 49, 1280))
    assert layer._early(regions, 80)
    assert not layer._early(regions, 12)  # one caption
    assert not layer._early(remember(layer, torch.randn(1, 196, 1280)), 80)


def test_the_forget_gate_starts_open(layer):
    assert layer.project.bias[HIDDEN : 2 * HIDDEN].tolist() == [1.0] * HIDDEN


@pytest.mark.parametrize("layers", [1, 2])
def test_reading_both_ways_equals_torchs_packed_lstm(layers):
    ours = BidirectionalLSTM(INPUTS, HIDDEN, layers)
    theirs = torch.nn.LSTM(INPUTS, HIDDEN, layers, batch_first=True, bidirectional=True)
    for layer in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            for ways, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
                getattr(theirs, f"{name}_l{layer}{suffix}").data.copy_(getattr(ways[layer], f"{name}_l0").data)
    lengths = torch.tensor([4, 7, 1, 7])
    x, mask = torch.randn(4, TIME, INPUTS), torch.arange(TIME) < lengths.unsqueeze(1)
    outputs, final = ours(x, mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, (hidden, _) = theirs(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(final, torch.cat([hidden[-2], hidden[-1]], dim=-1))


def test_reading_nothing_gives_zeros():
    outputs, final = BidirectionalLSTM(INPUTS, HIDDEN)(torch.randn(1, 3, INPUTS), torch.zeros(1, 3, dtype=torch.bool))
    assert not outputs.any()
    assert not final.any()


def test_an_unknown_gate_is_named():
    with pytest.raises(UserError, match=r"model\.gate=double"):
        AttentiveLSTM(INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8), context_gate="double")
