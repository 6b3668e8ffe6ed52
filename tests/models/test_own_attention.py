"""Attention layers of a user's own, whose context is not `alpha @ memory`, in every family."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attendgen.data.batch import pad
from attendgen.layers.attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MeanAttention,
    attend,
    has_weighted_sum,
)
from attendgen.layers.decoders import BahdanauDecoder, LuongDecoder
from attendgen.layers.hard_attention import argmax
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.utils.errors import UserError
from helpers.stepping import assert_rows_share_their_memory, assert_steps_equal

SYMBOLS, HIDDEN = 9, 8
TIME = 24  # so many steps that multiplying the memory once would be less work


class MultiHead(nn.Module):
    """Two heads, each over its own slice of the memory; alpha is their mean."""

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()
        self.queries, self.keys = nn.Linear(query, 2 * memory), nn.Linear(memory, 2 * memory)

    def project(self, memory):
        return self.keys(memory)

    def forward(self, query, keys, memory, mask=None):
        parts = zip(self.queries(query).chunk(2, -1), keys.chunk(2, -1), memory.chunk(2, -1), strict=True)
        found = [attend(q @ k.transpose(1, 2) / math.sqrt(k.size(-1)), v, mask) for q, k, v in parts]
        contexts, alphas = zip(*found, strict=True)
        return torch.cat(contexts, dim=-1), torch.stack(alphas).mean(dim=0)


class Squashed(GeneralAttention):
    """tanh of the expected memory vector."""

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.tanh(3 * context), alpha


class Gated(GeneralAttention):
    """The expected memory vector times a gate of the query."""

    def __init__(self, query: int, memory: int) -> None:
        super().__init__(query, memory)
        self.gate = nn.Linear(query, memory)

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.sigmoid(self.gate(query)) * context, alpha


class Shifted(GeneralAttention):
    """Plain attention that adds a vector to each context."""

    def __call__(self, query, keys, memory, mask=None):
        context, alpha = super().__call__(query, keys, memory, mask)
        return context + 1.0, alpha


def captioner(attention, context_gate="none", **settings) -> Captioner:
    return Captioner(
        SYMBOLS, SmallCNN((4, 12), size=16), attention, embedding_dim=7, hidden=HIDDEN, context_gate=gate, **settings
    )


MODELS = {
    "bahdanau": lambda attention: Seq2Seq(SYMBOLS, SYMBOLS, attention, BahdanauDecoder, embedding_dim=6, hidden=HIDDEN),
    "luong": lambda attention: Seq2Seq(SYMBOLS, SYMBOLS, attention, LuongDecoder, embedding_dim=6, hidden=HIDDEN),
    "luong_parallel": lambda attention: Seq2Seq(
        SYMBOLS, SYMBOLS, attention, partial(LuongDecoder, input_feeding=False), embedding_dim=6, hidden=HIDDEN
    ),
    "context_lm": lambda attention: ContextLanguageModel(
        SYMBOLS, attention, embedding_dim=6, encoder_hidden=4, hidden=HIDDEN
    ),
    "captioner": captioner,
    "captioner, scalar gate": partial(captioner, context_gate="scalar"),
    "captioner, vector gate": partial(captioner, context_gate="vector"),
    "captioner, no deep output": partial(captioner, deep_output=False),
}


@pytest.fixture(params=[MultiHead, Squashed, Gated, Shifted])
def attention(request):
    return request.param


@pytest.fixture(params=MODELS)
def model(request, attention):
    made = MODELS[request.param](attention).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # untrained models hardly depend on their context
            parameter.mul_(3)
    return made


def asked_of(model: nn.Module) -> torch.Tensor:
    if isinstance(model, Captioner):
        return torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    return pad([[3, 4, 5, 6], [7, 8]])


def test_training_and_decoding_are_one_function(model):
    asked, inputs = asked_of(model), torch.randint(1, SYMBOLS, (2, TIME))
    memory, state = model.encode(asked)
    if isinstance(model, Captioner):
        forced = tuple(part[:, 0] for part in model(asked, inputs.unsqueeze(1)))
    else:
        forced = model(asked, inputs)
    # two functions differ by 0.1 and more, rounding by less than a ten-thousandth
    assert_steps_equal(model, memory, state, inputs, forced, atol=1e-3, rtol=1e-4)


def test_hypotheses_share_their_memory(model):
    assert_rows_share_their_memory(model, asked_of(model), torch.randint(1, SYMBOLS, (6,)), model.step)


@pytest.mark.parametrize(
    "layer", [MeanAttention(4, 4), DotAttention(4, 4), GeneralAttention(4, 4), AdditiveAttention(4, 4)]
)
def test_the_layers_of_attendgen_declare_their_weighted_sum(layer):
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    context, alpha = layer(query, layer.keys(memory), memory)
    assert has_weighted_sum(layer)
    torch.testing.assert_close(context, alpha @ memory)


def test_a_subclass_with_another_forward_must_declare_it_anew(attention):
    assert not has_weighted_sum(attention(4, 4))

    class Declared(attention):
        context_is_weighted_sum = True

    assert has_weighted_sum(Declared(4, 4))


def test_a_layer_with_hooks_or_a_forward_of_its_own_declares_nothing():
    layers = [GeneralAttention(4, 4) for _ in range(4)]
    layers[0].register_forward_hook(lambda module, inputs, output: None)
    layers[1].register_forward_pre_hook(lambda module, inputs: None)
    layers[2].forward = layers[3].forward
    assert [has_weighted_sum(layer) for layer in layers] == [False, False, False, True]


def test_hard_attention_asks_for_a_weighted_sum(attention):
    with pytest.raises(UserError, match=r"model\.attention: hard attention .*context_is_weighted_sum"):
        captioner(attention, inference_attention="argmax")
    soft = captioner(attention).eval()
    with pytest.raises(UserError, match=r"model\.attention: hard attention"):
        soft.forward_sampled(asked_of(soft), torch.randint(1, SYMBOLS, (2, 1, 4)), select=argmax)
