from functools import partial

import pytest
import torch

from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.attention_unit import AttentionUnit
from attendgen.layers.row_attention import RowAttention
from attendgen.layers.state import Memory
from attendgen.testing import check_decoder
from attendgen.utils.errors import UserError

INPUTS, HIDDEN, MEMORY, TIME = 3, 5, 4, 6
MASK = torch.tensor([[True] * 4, [True, True, False, False]])


def run(unit: AttentionUnit):
    """Return the inputs, the memory, the first state, and what the unit computes for them, in double precision."""
    unit.double()
    inputs, values = torch.randn(2, TIME, INPUTS).double(), torch.randn(2, 4, MEMORY).double()
    memory = Memory(unit.keys(values), values, MASK)
    first = torch.randn(2, 1, HIDDEN).double()
    return inputs, memory, first[:, 0], unit(inputs, unit.initial_state(first, first, memory), memory)


def look(attention: AdditiveAttention, query: torch.Tensor, memory: Memory):
    hidden = torch.tanh(attention.query_proj(query).unsqueeze(1) + attention.key_proj(memory.values))
    scores = (hidden @ attention.score.weight[0]).masked_fill(~memory.mask, -torch.inf)
    alpha = scores.softmax(dim=1)
    return torch.einsum("bs,bsm->bm", alpha, memory.values), alpha


def test_without_gate_and_with_one_look_it_is_the_gru_of_bahdanau():
    unit = AttentionUnit(INPUTS, HIDDEN, MEMORY, AdditiveAttention, gate=False, looks=1)
    inputs, memory, state, (features, alphas, _) = run(unit)
    # A.2.2 of the paper: one matrix for each of the three inputs of the reset gate, the update gate and h~
    w_r, w_z, w = unit.input_maps.weight.split(HIDDEN)
    b_r, b_z, b = unit.input_maps.bias.split(HIDDEN)
    u_r, u_z = unit.hidden_gates.weight.split(HIDDEN)
    c_r, c_z = unit.context_gates.weight.split(HIDDEN)
    u, c = unit.candidate.weight.split([HIDDEN, MEMORY], dim=1)
    for t in range(TIME):
        x, (context, alpha) = inputs[:, t], look(unit.attention, state, memory)
        reset = torch.sigmoid(x @ w_r.T + state @ u_r.T + context @ c_r.T + b_r)
        update = torch.sigmoid(x @ w_z.T + state @ u_z.T + context @ c_z.T + b_z)
        new = torch.tanh(x @ w.T + (reset * state) @ u.T + context @ c.T + b)
        state = (1 - update) * state + update * new
        torch.testing.assert_close(features[:, t], torch.cat([state, context], dim=1), atol=1e-6, rtol=0)
        torch.testing.assert_close(alphas[:, t], alpha, atol=1e-6, rtol=0)


def test_a_gate_that_is_open_changes_nothing():
    gated = AttentionUnit(INPUTS, HIDDEN, MEMORY, AdditiveAttention, looks=1)
    open_ = AttentionUnit(INPUTS, HIDDEN, MEMORY, AdditiveAttention, gate=False, looks=1)
    size = 2 * HIDDEN
    with torch.no_grad():
        for name in ("input_maps.weight", "input_maps.bias"):
            own, other = gated.get_parameter(name), open_.get_parameter(name)
            other.copy_(torch.cat([own[:size], own[size + MEMORY :]]))
        for name in ("hidden_gates.weight", "context_gates.weight"):
            own = gated.get_parameter(name)
            open_.get_parameter(name).copy_(own[:size])
            own[size:] = 0
        open_.candidate.load_state_dict(gated.candidate.state_dict())
        open_.attention.load_state_dict(gated.attention.state_dict())
        gated.input_maps.weight[size : size + MEMORY] = 0
        gated.input_maps.bias[size : size + MEMORY] = 40.0  # sigmoid(40) is 1 in double precision
    torch.manual_seed(1)
    found = run(gated)[-1]
    torch.manual_seed(1)
    torch.testing.assert_close(found, run(open_)[-1], atol=1e-6, rtol=0)


def test_gate_and_second_look_follow_their_equations():
    unit = AttentionUnit(INPUTS, HIDDEN, MEMORY, AdditiveAttention)
    inputs, memory, state, (features, alphas, _) = run(unit)
    for t in range(TIME):
        context, _ = look(unit.attention, state, memory)
        of_inputs, of_new = unit.input_maps(inputs[:, t]).split([2 * HIDDEN + MEMORY, HIDDEN], dim=1)
        gates = torch.sigmoid(of_inputs + unit.hidden_gates(state) + unit.context_gates(context))
        reset, update, gate = gates.split([HIDDEN, HIDDEN, MEMORY], dim=1)
        new = torch.tanh(of_new + unit.candidate(torch.cat([reset * state, gate * context], dim=1)))
        state = (1 - update) * state + update * new
        second, alpha = look(unit.attention, unit.second_query(state), memory)
        torch.testing.assert_close(features[:, t], torch.cat([state, second], dim=1))
        torch.testing.assert_close(alphas[:, t], alpha)


@pytest.mark.parametrize(("gate", "looks"), [(False, 1), (True, 2)])
def test_it_is_a_decoder(gate, looks):
    check_decoder(partial(AttentionUnit, gate=gate, looks=looks))


@pytest.mark.parametrize("attention", [GeneralAttention, RowAttention, partial(RowAttention, cells=GeneralAttention)])
def test_fast_steps_have_the_gradients_of_the_equations(attention):
    unit = AttentionUnit(INPUTS, HIDDEN, MEMORY, attention)
    gradients = []
    for fast in (True, False):
        unit.fast = fast
        unit.zero_grad()
        torch.manual_seed(2)
        features, alphas, _ = run(unit)[-1]
        (features.square().sum() + alphas.square().sum()).backward()
        gradients.append([weight.grad.clone() for weight in unit.parameters()])
    torch.testing.assert_close(*gradients)


def test_a_third_look_is_refused():
    with pytest.raises(UserError, match="looks=3: expected 1 or 2"):
        AttentionUnit(INPUTS, HIDDEN, MEMORY, AdditiveAttention, looks=3)
