import math

import numpy as np
import pytest
import torch

from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention, MeanAttention, attend
from attendgen.utils.errors import UserError

QUERY, MEMORY, KEY = 4, 6, 5


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def dot_score(layer, query, memory):
    return float(query @ memory)


def scaled_score(layer, query, memory):
    return float(query @ memory) / math.sqrt(len(query))


def general_score(layer, query, memory):
    return float(query @ array(layer.map.weight) @ memory)


def scaled_general_score(layer, query, memory):
    return general_score(layer, query, memory) / math.sqrt(len(query))


def additive_score(layer, query, memory):
    inner = array(layer.query.weight) @ query + array(layer.map.weight) @ memory + array(layer.map.bias)
    return float(array(layer.score.weight)[0] @ np.tanh(inner))


def rectified_score(layer, query, memory):
    inner = array(layer.query.weight) @ query + array(layer.map.weight) @ memory + array(layer.map.bias)
    return float(array(layer.score.weight)[0] @ np.maximum(inner, 0))


def two_layer_score(layer, query, memory):
    first = np.tanh(array(layer.query.weight) @ query + array(layer.map.weight) @ memory + array(layer.map.bias))
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
    "additive, rectified": (lambda: AdditiveAttention(QUERY, MEMORY, KEY, "relu"), MEMORY, rectified_score),
    "additive, two layers": (lambda: AdditiveAttention(QUERY, MEMORY, KEY, layers=2), MEMORY, two_layer_score),
    "mean": (lambda: MeanAttention(QUERY, MEMORY), MEMORY, no_score),
}


@pytest.fixture(params=LAYERS)
def case(request):
    """A layer, the size of its memory's vectors and the score by the textbook."""
    make, memory, score = LAYERS[request.param]
    return make(), memory, score


def ask(layer, query, memory, mask=None):
    return layer(query, layer.keys(memory), memory, mask)


def test_equals_a_loop(case):
    layer, dim, score = case
    query, memory = torch.randn(3, 2, QUERY), torch.randn(3, 5, dim)
    lengths = (5, 3, 1)
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    context, alpha = ask(layer, query, memory, mask)
    for b, length in enumerate(lengths):
        for q in range(2):
            scores = [score(layer, array(query[b, q]), array(memory[b, s])) for s in range(length)]
            weights = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
            expected = sum(w * array(memory[b, s]) for s, w in enumerate(weights))
            np.testing.assert_allclose(array(alpha[b, q, :length]), weights, atol=1e-6)
            np.testing.assert_allclose(array(context[b, q]), expected, atol=1e-6)
            assert alpha[b, q, length:].tolist() == [0.0] * (5 - length)


def test_no_mask_is_a_mask_that_is_true_everywhere(case):
    layer, dim, _ = case
    query, memory = torch.randn(2, 3, QUERY), torch.randn(2, 4, dim)
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    for left, right in zip(ask(layer, query, memory), ask(layer, query, memory, everywhere), strict=True):
        torch.testing.assert_close(left, right)


def test_what_is_masked_has_no_influence_and_no_gradient(case):
    layer, dim, _ = case
    query, memory = torch.randn(1, 2, QUERY), torch.randn(1, 4, dim)
    mask = torch.tensor([[True, False, True, False]])
    other = torch.where(mask.unsqueeze(-1), memory, 100 * torch.randn(1, 4, dim)).requires_grad_()
    context, alpha = ask(layer, query, other, mask)
    torch.testing.assert_close((context, alpha), ask(layer, query, memory, mask))
    context.square().sum().backward()
    assert not other.grad[~mask].any()
    assert other.grad[mask].any(dim=-1).all()


def test_an_empty_memory_gives_zeros_and_finite_gradients(case):
    layer, dim, _ = case
    query = torch.randn(2, 3, QUERY, requires_grad=True)
    memory = torch.randn(2, 4, dim, requires_grad=True)
    context, alpha = ask(layer, query, memory, torch.tensor([[False] * 4, [True] * 4]))
    assert not alpha[0].any()
    assert not context[0].any()
    torch.testing.assert_close(alpha[1].sum(dim=-1), torch.ones(3))
    context.sum().backward()
    for asked in (query, memory):
        assert asked.grad is None or asked.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_masks_too(dtype):
    query, memory = 10 * torch.randn(1, 2, QUERY, dtype=dtype), torch.randn(1, 3, QUERY, dtype=dtype)
    context, alpha = ask(DotAttention(QUERY, QUERY), query, memory, torch.tensor([[True, True, False]]))
    assert context.isfinite().all()
    assert not alpha[..., 2].any()
    torch.testing.assert_close(alpha.float().sum(dim=-1), torch.ones(1, 2), atol=1e-2, rtol=0)


def test_dot_refuses_unequal_sizes_and_names_the_remedy():
    with pytest.raises(UserError, match=r"has 4 and the memory 6; use .*General"):
        DotAttention(QUERY, MEMORY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_softmax_is_taken_in_single_precision(dtype):
    scores, memory = torch.randn(2, 3, 300).to(dtype), torch.randn(2, 300, 4).to(dtype)
    context, alpha = attend(scores, memory, None)
    torch.testing.assert_close(alpha, scores.double().softmax(-1).float())
    assert context.dtype == dtype
