"""Every decoder keeps its contract, and the check of it finds mistakes."""

from functools import partial

import pytest
import torch

from attendgen.layers import (
    BahdanauDecoder,
    GeneralAttention,
    LocationSensitiveAttention,
    LuongDecoder,
    MeanAttention,
    attentive_steps,
)
from attendgen.testing import check_decoder

DECODERS = {
    "bahdanau": BahdanauDecoder,
    "bahdanau, step by step": partial(BahdanauDecoder, fast=False),
    "bahdanau, scalar gate": partial(BahdanauDecoder, context_gate="scalar"),
    "bahdanau, vector gate": partial(BahdanauDecoder, context_gate="vector"),
    "luong": LuongDecoder,
    "luong, parallel": partial(LuongDecoder, input_feeding=False),
    "luong, two layers": partial(LuongDecoder, layers=2, dropout=0.5, hidden_dropout=0.5, bias=True),
    "luong, two layers, parallel": partial(LuongDecoder, layers=2, input_feeding=False),
}


@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
def test_every_decoder_keeps_its_contract(make):
    check_decoder(make)
    for attention in (MeanAttention, GeneralAttention, LocationSensitiveAttention):
        check_decoder(make, inputs=3, hidden=4, memory=7, attention=attention)


class Squashed(GeneralAttention):
    """Its context is no weighted sum."""

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.tanh(context), alpha


class OtherFirstStep(BahdanauDecoder):
    def step(self, inputs, state, memory):
        features, alpha, state = super().step(inputs, state, memory)
        return features + 0.1 * (state.past is None), alpha, state

    def attend_steps(self, *arguments):
        """Say that it has all steps at once, too."""
        return super().attend_steps(*arguments)


class FirstRow(LuongDecoder):
    """The rows that share a memory are mixed up."""

    def step(self, inputs, state, memory):
        features, alpha, state = super().step(inputs, state, memory)
        mixed = features.unflatten(0, (len(memory.values), -1)).flip(1).flatten(0, 1)
        return mixed, alpha, state


class Positional(LuongDecoder):
    """What a row gives depends on its place in the batch."""

    def step(self, inputs, state, memory):
        return super().step(inputs * torch.arange(1, len(inputs) + 1).view(-1, 1), state, memory)

    def forward(self, inputs, state, memory):
        return super().forward(inputs * torch.arange(1, len(inputs) + 1).view(-1, 1, 1), state, memory)


class Restarting(LuongDecoder):
    """Forgets the features of the step before when it continues."""

    def forward(self, inputs, state, memory):
        return super().forward(inputs, state._replace(feed=torch.zeros_like(state.feed)), memory)


class Leaking(LuongDecoder):
    def initial_state(self, hidden, cell, memory):
        return super().initial_state(hidden + memory.values.mean(), cell, memory)


class Narrow(LuongDecoder):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.features += 1


MISTAKES = [
    (OtherFirstStep, "with AdditiveAttention: step 0 differs from all steps at once: features differs by 0.1"),
    (FirstRow, "step: rows that share a memory|step .* differs|rows that share"),
    (Positional, "rows that share a memory differ|reordering the rows"),
    (Restarting, "a continued state differs from one pass: features differs by"),
    (Leaking, "memory vectors at masked positions have an influence: features differs by"),
    (Narrow, r"features has the shape \(3, 8, 6\), expected \(3, 8, 7\)"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES, ids=[make.__name__ for make, _ in MISTAKES])
def test_a_mistake_is_found(make, message):
    with pytest.raises(AssertionError, match=message):
        check_decoder(make)


def test_a_shortcut_that_is_not_allowed_is_found(monkeypatch):
    check_decoder(BahdanauDecoder, attention=Squashed)
    # training then sums the memory, whatever the layer's context is
    monkeypatch.setattr(attentive_steps, "has_scores", lambda attention: True)
    with pytest.raises(AssertionError, match="with Squashed: step 0 differs from all steps at once: features differs"):
        check_decoder(BahdanauDecoder, attention=Squashed)
