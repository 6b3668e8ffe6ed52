"""Every attention layer keeps its contract, and the check of it finds mistakes."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attendgen.layers import (
    AdditiveAttention,
    CoverageAttention,
    DotAttention,
    GeneralAttention,
    LocationSensitiveAttention,
    MeanAttention,
    MultiHeadAttention,
)
from attendgen.layers.attention import attend
from attendgen.testing import check_attention

LAYERS = {
    "mean": MeanAttention,
    "dot": DotAttention,
    "scaled dot": partial(DotAttention, scaled=True),
    "general": GeneralAttention,
    "scaled general": partial(GeneralAttention, scaled=True),
    "additive": AdditiveAttention,
    "additive, relu": partial(AdditiveAttention, dim=5, activation="relu"),
    "additive, two layers": partial(AdditiveAttention, dim=5, layers=2),
    "additive, by its equation": partial(AdditiveAttention, fused=False),
    "multi-head": MultiHeadAttention,
    "location-sensitive": LocationSensitiveAttention,
    "location-sensitive, cumulative": partial(LocationSensitiveAttention, cumulative=True, width=3),
    "coverage": CoverageAttention,
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_every_layer_keeps_its_contract(make):
    check_attention(make, query=8, memory=8)
    if getattr(make, "func", make) is not DotAttention:
        check_attention(make, query=8, memory=6)


class Unmasked(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        return super().forward(query, keys, memory, None)


class Leaking(GeneralAttention):
    """The context, but not the weights, depends on padding."""

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return context + memory.mean(dim=1, keepdim=True), alpha


class Unnormalized(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return 0.5 * context, 0.5 * alpha


class BatchMean(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        return super().forward(query - query.mean(dim=0), keys, memory, mask)


class QueryMean(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        return super().forward(query - query.mean(dim=1, keepdim=True), keys, memory, mask)


class Counting(GeneralAttention):
    """Padding has no weight, but the scores depend on the number of positions with it."""

    def forward(self, query, keys, memory, mask=None):
        return super().forward(query * keys.size(1), keys, memory, mask)


class Squashed(GeneralAttention):
    context_is_weighted_sum = True

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.tanh(context), alpha


class ValueDependent(GeneralAttention):
    """The context is a weighted sum, but its weights are no function of the keys alone."""

    context_is_weighted_sum = True

    def forward(self, query, keys, memory, mask=None):
        return attend(query @ keys.transpose(1, 2) * memory.norm(dim=-1).unsqueeze(1), memory, mask)


class Forgetful(GeneralAttention):
    uses_past = True

    def forward(self, query, keys, memory, mask, past):
        return super().forward(query, keys, memory, mask)


class Single(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query.float(), keys.float(), memory.float(), mask)
        return context + (memory.dtype == torch.bfloat16), alpha


class Infinite(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        scores = query @ keys.transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
        alpha = scores.softmax(dim=-1)
        return alpha @ memory, alpha


class RootOfZero(MeanAttention):
    """Its gradient is infinite times zero."""

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return context + (query - query).square().sum(dim=-1, keepdim=True).sqrt(), alpha


class Transposed(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return context, alpha.transpose(1, 2)


class Remembering(GeneralAttention):
    """It counts its calls."""

    def keys(self, memory):
        self.calls = 0
        return super().keys(memory)

    def forward(self, query, keys, memory, mask=None):
        self.calls += 1
        return super().forward(query * self.calls, keys, memory, mask)


class OtherScores(AdditiveAttention):
    """It attends otherwise than by the softmax of the scores that it offers."""

    context_is_weighted_sum = True
    query_weight = AdditiveAttention.query_weight

    def score_keys(self, query, keys):
        return 2 * super().score_keys(query, keys)

    def forward(self, query, keys, memory, mask=None):
        return attend(super().score_keys(self.query_proj(query), keys), memory, mask)


class Detached(GeneralAttention):
    def keys(self, memory):
        return super().keys(memory).detach()


class ThreeValues(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        return *super().forward(query, keys, memory, mask), None


class Breaking(GeneralAttention):
    def forward(self, query, keys, memory, mask=None):
        if query.dtype == torch.bfloat16:
            raise RuntimeError("no bfloat16")
        return super().forward(query, keys, memory, mask)


class OtherNames(GeneralAttention):
    def __init__(self, inputs, memory):
        super().__init__(inputs, memory)


class Plain(GeneralAttention):
    """Its products need tensors of one type: a decoding's memory has that of the weights."""

    def forward(self, query, keys, memory, mask=None):
        real = torch.ones_like(keys[..., 0], dtype=torch.bool) if mask is None else mask
        scores = (query @ keys.transpose(1, 2)).masked_fill(~real.unsqueeze(1), -1e4)
        alpha = scores.softmax(dim=-1) * real.unsqueeze(1)
        return alpha @ memory, alpha


class Wrapped(nn.Module):
    """A layer without parameters of which the result is right."""

    def __init__(self, query, memory):
        super().__init__()

    def keys(self, memory):
        return memory

    def forward(self, query, keys, memory, mask=None):
        return attend(query.sum(dim=-1, keepdim=True) * keys.sum(dim=-1).unsqueeze(1), memory, mask)


MISTAKES = [
    (Unmasked, r"masked position has the attention weight 0\.\d+, expected 0"),
    (Leaking, r"masked positions have an influence: context differs by \d"),
    (Unnormalized, r"sum of the attention weights differs by 0\.5 at .*0\.5 instead of 1"),
    (BatchMean, "row of a batch differs from the row alone: context differs by"),
    (QueryMean, "several queries differ from one at a time: context differs by"),
    (Counting, "padding changes the result: context differs by"),
    (Squashed, "context_is_weighted_sum is declared: context, compared with alpha @ memory, differs by"),
    (ValueDependent, "context_is_weighted_sum is declared: context of a linear map of the memory differs by"),
    (Forgetful, "uses_past is declared, but"),
    (Single, "bfloat16: context differs by 1"),
    (Infinite, "without real positions: context: 24 of 96 numbers are infinite or NaN"),
    (RootOfZero, "gradients: gradient of input 0: 96 of 96 numbers are infinite or NaN"),
    (Remembering, "a second call with the same keys differs from the first: context differs by"),
    (OtherScores, "training attends with the softmax of its scores: attention weights differs by"),
    (Detached, "gradients: key_proj.weight has none, so it is not trained"),
    (ThreeValues, "the call returns 3 values, expected two"),
    (Breaking, "bfloat16: RuntimeError: no bfloat16"),
    (OtherNames, "made with query=8, memory=8: TypeError: .*unexpected keyword argument 'query'"),
    (Transposed, r"attention weights has the shape \(4, 5, 3\), expected \(4, 3, 5\)"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES, ids=[make.__name__ for make, _ in MISTAKES])
def test_a_mistake_is_found(make, message):
    with pytest.raises(AssertionError, match=message):
        check_attention(make)


def test_a_layer_of_ones_own_passes_and_the_random_numbers_go_on():
    torch.manual_seed(5)
    check_attention(Wrapped)
    check_attention(Plain)
    found = torch.rand(1)
    torch.manual_seed(5)
    assert found == torch.rand(1)
