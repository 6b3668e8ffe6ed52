import math

import numpy as np
import pytest
import torch

from attendgen.layers import additive_kernel
from attendgen.layers.attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MeanAttention,
    Padding,
    attend,
    weigh_scores,
)
from attendgen.layers.attention_protocol import prepare_keys
from attendgen.utils.errors import UserError

QUERY, MEMORY, KEY = 4, 6, 5


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def dot_score(layer, query, memory):
    return float(query @ memory)


def scaled_score(layer, query, memory):
    return float(query @ memory) / math.sqrt(len(query))


def general_score(layer, query, memory):
    return float(query @ array(layer.key_proj.weight) @ memory)


def scaled_general_score(layer, query, memory):
    return general_score(layer, query, memory) / math.sqrt(len(query))


def additive_score(layer, query, memory):
    inner = array(layer.query_proj.weight) @ query + array(layer.key_proj.weight) @ memory + array(layer.key_proj.bias)
    return float(array(layer.score.weight)[0] @ np.tanh(inner))


def relu_score(layer, query, memory):
    inner = array(layer.query_proj.weight) @ query + array(layer.key_proj.weight) @ memory + array(layer.key_proj.bias)
    return float(array(layer.score.weight)[0] @ np.maximum(inner, 0))


def two_layer_score(layer, query, memory):
    first = np.tanh(
        array(layer.query_proj.weight) @ query + array(layer.key_proj.weight) @ memory + array(layer.key_proj.bias)
    )
    second = np.tanh(array(layer.inner.weight) @ first + array(layer.inner.bias))
    return float(array(layer.score.weight)[0] @ second)


def no_score(layer, query, memory):
    return 0.0


LAYERS = {
    "dot": (lambda: DotAttention(QUERY, QUERY), QUERY, dot_score),
    "scaled dot": (lambda: DotAttention(QUERY, QUERY, scaled=True), QUERY, scaled_score),
    "general": (lambda: GeneralAttention(QUERY, MEMORY), MEMORY, general_score),
    "scaled general": (lambda: GeneralAttention(QUERY, MEMORY, scaled=True), MEMORY, scaled_general_score),
    "additive": (lambda: AdditiveAttention(QUERY, MEMORY, KEY), MEMORY, additive_score),
    "additive, as wide as the query": (lambda: AdditiveAttention(QUERY, MEMORY), MEMORY, additive_score),
    "additive, relu": (lambda: AdditiveAttention(QUERY, MEMORY, KEY, "relu"), MEMORY, relu_score),
    "additive, two layers": (lambda: AdditiveAttention(QUERY, MEMORY, KEY, layers=2), MEMORY, two_layer_score),
    "mean": (lambda: MeanAttention(QUERY, MEMORY), MEMORY, no_score),
}


@pytest.fixture(params=LAYERS)
def case(request):
    """A layer, the size of its memory's vectors, and its score by the published equation."""
    make, memory, score = LAYERS[request.param]
    return make(), memory, score


def attended(layer, query, memory, mask=None):
    return layer(query, layer.keys(memory), memory, mask)


def test_equals_a_loop_over_queries_and_keys(case):
    layer, dim, score = case
    query, memory = torch.randn(3, 2, QUERY), torch.randn(3, 5, dim)
    lengths = (5, 3, 1)
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    context, alpha = attended(layer, query, memory, mask)
    for b, length in enumerate(lengths):
        for q in range(2):
            scores = [score(layer, array(query[b, q]), array(memory[b, s])) for s in range(length)]
            weights = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
            expected = sum(w * array(memory[b, s]) for s, w in enumerate(weights))
            np.testing.assert_allclose(array(alpha[b, q, :length]), weights, atol=1e-6)
            np.testing.assert_allclose(array(context[b, q]), expected, atol=1e-6)
            assert alpha[b, q, length:].tolist() == [0.0] * (5 - length)


def test_no_mask_equals_a_mask_of_true(case):
    layer, dim, _ = case
    query, memory = torch.randn(2, 3, QUERY), torch.randn(2, 4, dim)
    all_true = torch.ones(2, 4, dtype=torch.bool)
    for left, right in zip(attended(layer, query, memory), attended(layer, query, memory, all_true), strict=True):
        torch.testing.assert_close(left, right)


def test_masked_positions_have_no_influence_and_no_gradient(case):
    layer, dim, _ = case
    query, memory = torch.randn(1, 2, QUERY), torch.randn(1, 4, dim)
    mask = torch.tensor([[True, False, True, False]])
    other = torch.where(mask.unsqueeze(-1), memory, 100 * torch.randn(1, 4, dim)).requires_grad_()
    context, alpha = attended(layer, query, other, mask)
    torch.testing.assert_close((context, alpha), attended(layer, query, memory, mask))
    context.square().sum().backward()
    assert not other.grad[~mask].any()
    assert other.grad[mask].any(dim=-1).all()


def test_an_empty_memory_gives_zeros_and_finite_gradients(case):
    layer, dim, _ = case
    query = torch.randn(2, 3, QUERY, requires_grad=True)
    memory = torch.randn(2, 4, dim, requires_grad=True)
    context, alpha = attended(layer, query, memory, torch.tensor([[False] * 4, [True] * 4]))
    assert not alpha[0].any()
    assert not context[0].any()
    torch.testing.assert_close(alpha[1].sum(dim=-1), torch.ones(3))
    context.sum().backward()
    for given in (query, memory):
        assert given.grad is None or given.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_work_in_half_precision(dtype):
    query, memory = 10 * torch.randn(1, 2, QUERY, dtype=dtype), torch.randn(1, 3, QUERY, dtype=dtype)
    context, alpha = attended(DotAttention(QUERY, QUERY), query, memory, torch.tensor([[True, True, False]]))
    assert context.isfinite().all()
    assert not alpha[..., 2].any()
    torch.testing.assert_close(alpha.float().sum(dim=-1), torch.ones(1, 2), atol=1e-2, rtol=0)


def test_dot_attention_refuses_unequal_sizes():
    with pytest.raises(UserError, match=r"has 4 and the memory 6; use model/attention=general"):
        DotAttention(QUERY, MEMORY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_softmax_is_taken_in_single_precision(dtype):
    scores, memory = torch.randn(2, 3, 300).to(dtype), torch.randn(2, 300, 4).to(dtype)
    context, alpha = attend(scores, memory, None)
    torch.testing.assert_close(alpha, scores.double().softmax(-1).float())
    assert context.dtype == dtype


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("queries", [2, 9], ids=["few queries", "many queries"])
@pytest.mark.parametrize("cached", [2**20, 4 * 5 * KEY, 1], ids=["batch at once", "some queries", "query by query"])
def test_fused_additive_attention_equals_the_equation(cached, queries, activation, masked, monkeypatch):
    monkeypatch.setattr(additive_kernel, "CACHED", cached)
    layer = AdditiveAttention(QUERY, MEMORY, KEY, activation).double()
    query = torch.randn(3, queries, QUERY, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(3, 5, MEMORY, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(5) < torch.tensor([5, 3, 1]).unsqueeze(1) if masked else None
    weights = torch.randn(3, queries, MEMORY, dtype=torch.float64), torch.randn(3, queries, 5, dtype=torch.float64)
    results, gradients = [], []
    for fused in (True, False):
        layer.fused = fused
        context, alpha = attended(layer, query, memory, mask)
        loss = (context * weights[0]).sum() + (alpha * weights[1]).sum()
        results.append((context, alpha))
        gradients.append(torch.autograd.grad(loss, [*layer.parameters(), query, memory]))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert all(gradient.any() for gradient in gradients[0])


@pytest.mark.parametrize("size", [1, 15, 60], ids=["small", "large powers", "powers too large"])
@pytest.mark.parametrize("queries", [3, 8])
@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_fused_scores_equal_the_equation_up_to_a_constant_per_query(activation, dtype, queries, size):
    query, keys = (size * torch.randn(2, number, KEY).clamp(-1, 1).to(dtype) for number in (queries, 4))
    vector = torch.randn(KEY).to(dtype)
    found = additive_kernel.additive_scores(query, keys, vector, activation)
    total = query.double().unsqueeze(2) + keys.double().unsqueeze(1)
    expected = getattr(torch, activation)(total) @ vector.double()
    constant = vector.double().sum() if activation == "tanh" else 0.0
    assert found.dtype == dtype
    near = {torch.float: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 2**-8, "atol": 1e-5}}[dtype]
    torch.testing.assert_close(found.double(), expected + constant, **near)


@pytest.mark.parametrize(("of_query", "of_keys"), [(1, 1), (30, 30), (200, 30)], ids=["small", "large", "saturated"])
@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
def test_scores_of_prepared_keys_equal_the_equation_up_to_a_constant_per_query(dtype, of_query, of_keys):
    query, keys = (size * torch.randn(3, number, KEY).clamp(-1, 1) for size, number in ((of_query, 5), (of_keys, 4)))
    query, keys, vector = query.to(dtype), keys.to(dtype), torch.randn(KEY).to(dtype)
    prepared = additive_kernel.prepare_keys(keys)
    assert prepared is not None
    found = additive_kernel.score_prepared(query, prepared, vector)
    expected = torch.tanh(query.double().unsqueeze(2) + keys.double().unsqueeze(1)) @ vector.double()
    near = {torch.float: {"rtol": 1e-5, "atol": 2e-5}, torch.bfloat16: {"rtol": 2**-8, "atol": 1e-5}}[dtype]
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected + vector.double().sum(), **near)


def test_keys_with_a_gradient_in_double_precision_or_too_large_are_not_prepared():
    keys = torch.randn(2, 4, KEY)
    assert additive_kernel.prepare_keys(keys[:, :0]) is None
    assert additive_kernel.prepare_keys(keys.requires_grad_()) is None
    assert additive_kernel.prepare_keys(keys.detach().double()) is None
    assert additive_kernel.prepare_keys(keys.detach() * 1000) is None


class Louder(AdditiveAttention):
    """An attention layer with scores of its own."""

    def score_keys(self, query, keys):
        return 2 * super().score_keys(query, keys)


@torch.no_grad()
def test_layers_that_define_their_scores_anew_are_given_their_own_keys():
    memory = torch.randn(2, 4, MEMORY)
    for layer, is_prepared in (
        (AdditiveAttention(QUERY, MEMORY, KEY), True),
        (Louder(QUERY, MEMORY, KEY), False),
        (AdditiveAttention(QUERY, MEMORY, KEY, "relu"), False),
        (AdditiveAttention(QUERY, MEMORY, KEY, layers=2), False),
        (AdditiveAttention(QUERY, MEMORY, KEY, fused=False), False),
        (GeneralAttention(QUERY, MEMORY), False),
    ):
        found = prepare_keys(layer, layer.keys(memory))
        assert isinstance(found, additive_kernel.ExponentialKeys) == is_prepared
        query = torch.randn(2, 3, QUERY)
        expected = layer(query, layer.keys(memory), memory)
        torch.testing.assert_close(layer(query, found, memory), expected)


def test_unknown_activations_and_numbers_of_layers_are_refused():
    with pytest.raises(UserError, match=r"model\.attention\.activation=gelu: unknown; choose tanh or relu"):
        AdditiveAttention(QUERY, MEMORY, activation="gelu")
    with pytest.raises(UserError, match=r"model\.attention\.layers=3: expected 1 or 2"):
        AdditiveAttention(QUERY, MEMORY, layers=3)


@pytest.mark.parametrize("dtype", [torch.double, torch.float, torch.bfloat16, torch.float16])
def test_a_mask_made_once_gives_the_weights_of_the_mask(dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    scores = (100 * torch.randn(3, 4, 3)).to(dtype)
    found, expected = weigh_scores(scores, Padding.make(mask)), weigh_scores(scores, mask)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert not found[1].any()
    assert torch.equal(weigh_scores(scores, Padding.make(None)), weigh_scores(scores, None))
