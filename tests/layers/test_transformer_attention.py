import math

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attendgen.layers.transformer_attention import MultiHeadAttention, attend_heads, make_rotation, rotate

SIZE, TIME = 6, 7


def score(query: torch.Tensor, key: torch.Tensor, at: int, to: int) -> torch.Tensor:
    """The product of a query and a key that stand at two positions."""
    rotation = make_rotation(max(at, to) + 1, SIZE, query.device)
    rotated = [rotate(vector.expand(1, 1, max(at, to) + 1, SIZE), rotation)[0, 0] for vector in (query, key)]
    return rotated[0][at] @ rotated[1][to]


def test_rotary_scores_depend_on_distance_only():
    query, key = torch.randn(2, SIZE)
    for distance in range(4):
        scores = torch.stack([score(query, key, start + distance, start) for start in (0, 1, 20)])
        torch.testing.assert_close(scores, scores[:1].expand(3), atol=1e-5, rtol=1e-5)
    assert not torch.isclose(score(query, key, 3, 0), score(query, key, 2, 0))
    assert not torch.isclose(score(query, key, 2, 0), score(query, key, 0, 2)), "before and after differ"


def test_rotation_multiplies_by_unit_complex_numbers():
    """Equation 12 of Su et al. (2021): f(x, m) = x exp(i m theta)."""
    vectors = torch.randn(1, 1, TIME, SIZE)
    rotated = rotate(vectors, make_rotation(TIME, SIZE, vectors.device))
    half = SIZE // 2
    for m in range(TIME):
        for j in range(half):
            number = complex(float(vectors[0, 0, m, j]), float(vectors[0, 0, m, half + j]))
            angle = m * 10_000 ** (-2 * j / SIZE)
            expected = number * complex(math.cos(angle), math.sin(angle))
            torch.testing.assert_close(float(rotated[0, 0, m, j]), expected.real, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(float(rotated[0, 0, m, half + j]), expected.imag, atol=1e-5, rtol=1e-5)


def test_the_context_is_the_weighted_sum_of_each_head():
    query, keys, values = torch.randn(3, 2, 4, TIME, SIZE)
    mask = torch.rand(2, 1, TIME, TIME) > 0.3
    contexts, alpha = attend_heads(query, keys, values, mask, report=True)
    for row in range(2):
        for head in range(4):
            for t in range(TIME):
                real = mask[row, 0, t]
                weights = (keys[row, head, real] @ query[row, head, t] / math.sqrt(SIZE)).softmax(dim=0)
                torch.testing.assert_close(alpha[row, head, t, real], weights)
                torch.testing.assert_close(contexts[row, head, t], weights @ values[row, head, real])
                assert not alpha[row, head, t, ~real].any()
    torch.testing.assert_close(attend_heads(query, keys, values, mask)[0], contexts, atol=1e-5, rtol=1e-5)


def test_inputs_are_the_last_positions_of_a_rotation():
    layer = MultiHeadAttention(2 * SIZE, heads=2).eval()
    vectors = torch.randn(1, TIME, 2 * SIZE)
    memory = layer.project(vectors)
    rotation = make_rotation(TIME, SIZE, vectors.device)
    whole, _ = layer(vectors, memory, rotation=rotation)
    last, _ = layer(vectors[:, -2:], memory, rotation=rotation)
    torch.testing.assert_close(last, whole[:, -2:], atol=1e-5, rtol=1e-5)


def test_torchs_plain_kernel_has_second_order_gradients():
    parts = tuple(torch.randn(1, 2, 3, 4, dtype=torch.double, requires_grad=True) for _ in range(3))
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda *tensors: attend_heads(*tensors, None, is_causal=True)[0], parts)
