from functools import partial

import pytest
import torch

from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.state import Memory, repeat_rows

INPUTS, HIDDEN, MEMORY, SOURCE, TIME, BATCH = 3, 5, 4, 6, 7, 3
DECODERS = {
    "bahdanau": BahdanauDecoder,
    "luong": LuongDecoder,
    "luong, no input feeding": partial(LuongDecoder, input_feeding=False),
    "luong, two layers": partial(LuongDecoder, layers=2),
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param](INPUTS, HIDDEN, MEMORY, partial(AdditiveAttention, dim=8))


def make_memory(decoder: torch.nn.Module, lengths: tuple[int, ...] = (6, 4, 1)) -> Memory:
    values = torch.randn(len(lengths), SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor(lengths).unsqueeze(1)
    return Memory(decoder.keys(values), values, mask)


def make_state(decoder: torch.nn.Module, memory: Memory, times: int = 1):
    rows = len(memory.values)
    first = [torch.randn(rows, decoder.layers, HIDDEN) for _ in range(2)]
    return repeat_rows(decoder.initial_state(*first, memory), times)


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_luong_equals_torchs_cells_and_the_papers_equations(input_feeding, layers):
    decoder = LuongDecoder(INPUTS, HIDDEN, MEMORY, GeneralAttention, input_feeding=input_feeding, layers=layers)
    memory, inputs = make_memory(decoder), torch.randn(BATCH, TIME, INPUTS)
    state = make_state(decoder, memory)
    features, alphas, _ = decoder(inputs, state, memory)
    cells = []
    for layer in range(layers):
        cell = torch.nn.LSTMCell(HIDDEN if layer else INPUTS + HIDDEN * input_feeding, HIDDEN)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).data.copy_(getattr(decoder.recurrence, f"{name}_l{layer}").data)
        cells.append(cell)
    states = [(state.hidden[:, layer], state.cell[:, layer]) for layer in range(layers)]
    attentional = torch.zeros(BATCH, HIDDEN)
    for t in range(TIME):
        x = torch.cat([inputs[:, t], attentional], dim=1) if input_feeding else inputs[:, t]
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        scores = torch.einsum("bh,hm,bsm->bs", x, decoder.attention.key_proj.weight, memory.values)
        alpha = scores.masked_fill(~memory.mask, -torch.inf).softmax(dim=1)
        context = torch.einsum("bs,bsm->bm", alpha, memory.values)
        attentional = torch.tanh(torch.cat([context, x], dim=1) @ decoder.combine.weight.T)
        torch.testing.assert_close(features[:, t], attentional)
        torch.testing.assert_close(alphas[:, t], alpha)


def test_every_parameter_has_a_gradient(decoder):
    memory = make_memory(decoder)
    features, _, _ = decoder(torch.randn(BATCH, TIME, INPUTS), make_state(decoder, memory), memory)
    features.square().sum().backward()
    assert [name for name, parameter in decoder.named_parameters() if not parameter.grad.any()] == []
