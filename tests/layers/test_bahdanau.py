from functools import partial

import pytest
import torch

from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import ArgmaxSampler
from attendgen.layers.state import AttentiveState, Memory, iterate_tensors
from attendgen.utils.errors import UserError

INPUTS, HIDDEN, MEMORY, SOURCE, TIME = 3, 5, 4, 6, 7


@pytest.fixture(params=["none", "scalar", "vector"])
def layer(request):
    return BahdanauDecoder(INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8), context_gate=request.param)


def make_memory(layer: BahdanauDecoder, values: torch.Tensor, mask: torch.Tensor | None = None) -> Memory:
    return Memory(layer.attention.keys(values), values, mask)


def make_cell(layer: BahdanauDecoder) -> torch.nn.LSTMCell:
    """Return torch's own cell over [x, z] with the layer's weights."""
    cell = torch.nn.LSTMCell(INPUTS + MEMORY, HIDDEN)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.cat([layer.input_gates.weight, layer.recurrent_gates.weight[:, :MEMORY]], dim=1))
        cell.weight_hh.copy_(layer.recurrent_gates.weight[:, MEMORY:])
        cell.bias_ih.copy_(layer.input_gates.bias)
        cell.bias_hh.zero_()
    return cell


def test_equals_torchs_cell_over_the_input_and_the_context(layer):
    batch = 3
    values = torch.randn(batch, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4, 1]).unsqueeze(1)
    memory = make_memory(layer, values, mask)
    x = torch.randn(batch, TIME, INPUTS)
    hidden, cell = torch.randn(batch, HIDDEN), torch.randn(batch, HIDDEN)
    states, contexts, alphas, *_ = layer.attend_steps(x, AttentiveState(hidden, cell), memory)
    reference = make_cell(layer)
    for t in range(TIME):
        context, alpha = layer.attention(hidden.unsqueeze(1), *memory)
        context = context.squeeze(1)
        if layer.context_gate is not None:
            context = torch.sigmoid(hidden @ layer.context_gate.weight.T + layer.context_gate.bias) * context
            assert layer.context_gate.weight.size(0) in (1, MEMORY)
        hidden, cell = reference(torch.cat([x[:, t], context], dim=1), (hidden, cell))
        torch.testing.assert_close(states[:, t], hidden)
        torch.testing.assert_close(contexts[:, t], context)
        torch.testing.assert_close(alphas[:, t], alpha.squeeze(1))


def test_rows_that_share_a_memory_equal_a_repeated_memory(layer):
    batch, group = 2, 3
    values = torch.randn(batch, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4]).unsqueeze(1)
    x = torch.randn(batch * group, TIME, INPUTS)
    state = AttentiveState(torch.randn(batch * group, HIDDEN), torch.randn(batch * group, HIDDEN))
    shared = layer.attend_steps(x, state, make_memory(layer, values, mask))
    repeated = make_memory(layer, values.repeat_interleave(group, dim=0), mask.repeat_interleave(group, dim=0))
    for left, right in zip(
        iterate_tensors(shared), iterate_tensors(layer.attend_steps(x, state, repeated)), strict=True
    ):
        torch.testing.assert_close(left, right)


def test_single_steps_equal_all_steps_at_once(layer):
    memory = make_memory(layer, torch.randn(2, SOURCE, MEMORY))
    x = torch.randn(2, TIME, INPUTS)
    state = AttentiveState(torch.randn(2, HIDDEN), torch.randn(2, HIDDEN))
    hidden, contexts, alphas, *_ = layer.attend_steps(x, state, memory)
    for t in range(TIME):
        state, attended = layer.attend_step(x[:, t], state, memory)
        found = (state.hidden, attended.gated, attended.alpha)
        torch.testing.assert_close(found, (hidden[:, t], contexts[:, t], alphas[:, t]))


@pytest.mark.parametrize("reorders", [False, True], ids=["contexts", "memory"])
@pytest.mark.parametrize("sampler", [None, ArgmaxSampler()], ids=["soft", "hard"])
@pytest.mark.parametrize("with_readout", [False, True], ids=["no readout", "readout"])
def test_the_fast_path_has_the_results_and_gradients_of_the_equations(
    layer, reorders, sampler, with_readout, monkeypatch
):
    if reorders and not layer.gate_commutes:
        pytest.skip("a vector gate is multiplied before the weight")
    layer.double()
    monkeypatch.setattr(layer, "_reorders", lambda memory, contexts: reorders)
    values = torch.randn(2, SOURCE, MEMORY, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(SOURCE) < torch.tensor([6, 4]).unsqueeze(1)
    x = torch.randn(6, TIME, INPUTS, dtype=torch.float64, requires_grad=True)
    first = [torch.randn(6, HIDDEN, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    readout = torch.randn(3, MEMORY, dtype=torch.float64, requires_grad=True) if with_readout else None
    differentiated = [*layer.parameters(), values, x, *first, *([readout] if with_readout else [])]
    weightings = [torch.randn(6, TIME, size, dtype=torch.float64) for size in (HIDDEN, 3, SOURCE, SOURCE)]
    weightings[1] = weightings[1] if with_readout else torch.randn(6, TIME, MEMORY, dtype=torch.float64)
    results, gradients = {}, {}
    for fast in (True, False):
        layer.fast = fast
        steps = layer.attend_steps(x, AttentiveState(*first), make_memory(layer, values, mask), sampler, readout)
        loss = sum((part * weighting).sum() for part, weighting in zip(steps[:4], weightings, strict=True))
        results[fast], gradients[fast] = tuple(iterate_tensors(steps)), torch.autograd.grad(loss, differentiated)
    torch.testing.assert_close(results[True], results[False])
    torch.testing.assert_close(gradients[True], gradients[False])
    assert all(gradient.any() for gradient in gradients[True])


@pytest.mark.parametrize("fast", [False, True])
def test_fast_selects_the_fast_path(fast, monkeypatch):
    layer = BahdanauDecoder(INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8), fast=fast)
    calls, attend_fast = [], layer.attend_fast
    monkeypatch.setattr(layer, "attend_fast", lambda *given: calls.append(given) or attend_fast(*given))
    state = AttentiveState(torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN))
    layer(torch.randn(1, TIME, INPUTS), state, make_memory(layer, torch.randn(1, SOURCE, MEMORY)))
    assert len(calls) == fast


def test_the_weight_is_multiplied_with_the_memory_where_that_is_less_work():
    layer = BahdanauDecoder(INPUTS, HIDDEN, 1280, partial(AdditiveAttention, dim=8), context_gate="scalar")
    regions = make_memory(layer, torch.randn(1, 49, 1280))
    assert layer._reorders(regions, 80)
    assert not layer._reorders(regions, 12)  # one caption
    assert not layer._reorders(make_memory(layer, torch.randn(1, 196, 1280)), 80)


def test_the_forget_gate_has_an_initial_bias_of_one(layer):
    assert layer.input_gates.bias[HIDDEN : 2 * HIDDEN].tolist() == [1.0] * HIDDEN


def test_an_unknown_gate_is_refused():
    with pytest.raises(UserError, match=r"model\.context_gate=double: unknown; choose one of none, scalar, vector"):
        BahdanauDecoder(INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8), context_gate="double")
