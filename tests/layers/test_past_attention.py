"""Attention layers that see where they attended before, against loops over positions, and in decoders."""

from functools import partial

import pytest
import torch

from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.past_attention import CoverageAttention, LocationSensitiveAttention
from attendgen.layers.state import AttentionPast, Memory
from helpers.errors import refusal

QUERY, MEMORY, DIM, SOURCE = 4, 6, 5, 7
LENGTHS = (7, 4, 1)


def location_term(layer, past: AttentionPast, b: int, q: int, s: int) -> torch.Tensor:
    before = (past.total if layer.cumulative else past.last)[b, q]
    kernel = layer.filters.weight[:, 0]  # filters width
    half = kernel.size(1) // 2
    located = torch.zeros(kernel.size(0))
    for offset in range(-half, half + 1):
        if 0 <= s + offset < SOURCE:
            located = located + kernel[:, half + offset] * before[s + offset]
    return layer.location_proj.weight @ located


def coverage_term(layer, past: AttentionPast, b: int, q: int, s: int) -> torch.Tensor:
    return layer.coverage.weight[:, 0] * past.total[b, q, s]


LAYERS = {
    "location": (partial(LocationSensitiveAttention, dim=DIM, filters=3, width=5), location_term),
    "location, cumulative": (
        partial(LocationSensitiveAttention, dim=DIM, filters=3, width=3, cumulative=True),
        location_term,
    ),
    "coverage": (partial(CoverageAttention, dim=DIM), coverage_term),
}


@pytest.mark.parametrize("name", LAYERS)
def test_equals_the_equation_position_by_position(name):
    make, term = LAYERS[name]
    layer = make(query=QUERY, memory=MEMORY)
    query, memory = torch.randn(3, 2, QUERY), torch.randn(3, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor(LENGTHS).unsqueeze(1)
    last, earlier = (torch.rand(3, 2, SOURCE) * mask.unsqueeze(1) for _ in range(2))
    past = AttentionPast(last, last + earlier)
    context, alpha = layer(query, layer.keys(memory), memory, mask, past)
    for b, length in enumerate(LENGTHS):
        for q in range(2):
            scores = torch.stack(
                [
                    layer.score.weight[0]
                    @ torch.tanh(
                        layer.query_proj(query[b, q]) + layer.key_proj(memory[b, s]) + term(layer, past, b, q, s)
                    )
                    for s in range(length)
                ]
            )
            torch.testing.assert_close(alpha[b, q, :length], scores.softmax(dim=0))
            torch.testing.assert_close(context[b, q], scores.softmax(dim=0) @ memory[b, :length])
            assert not alpha[b, q, length:].any()


@pytest.mark.parametrize("decoder", [BahdanauDecoder, LuongDecoder, partial(LuongDecoder, input_feeding=False)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_decoder_hands_its_layer_the_weights_of_the_steps_before(name, decoder, monkeypatch):
    made = decoder(3, QUERY, MEMORY, LAYERS[name][0])
    values = torch.randn(2, SOURCE, MEMORY)
    memory = Memory(made.keys(values), values, torch.arange(SOURCE) < torch.tensor([7, 3]).unsqueeze(1))
    state = made.initial_state(torch.randn(2, 1, QUERY), torch.randn(2, 1, QUERY), memory)
    seen, forward = [], made.attention.forward
    monkeypatch.setattr(made.attention, "forward", lambda *given: seen.append(given[-1]) or forward(*given))
    _, alphas, last = made(torch.randn(2, 5, 3), state, memory)
    assert len(seen) == 5
    for t, past in enumerate(seen):
        torch.testing.assert_close(past.last[:, 0], alphas[:, t - 1] if t else torch.zeros(2, SOURCE))
        torch.testing.assert_close(past.total[:, 0], alphas[:, :t].sum(dim=1))
    torch.testing.assert_close(last.past.total, alphas.sum(dim=1))


def test_an_even_width_is_refused():
    message = "model.attention.width=4: expected an odd number above 0"
    assert refusal(LocationSensitiveAttention, 4, 4, width=4) == message
