import math

import pytest
import torch

from attendgen.layers.sliding_attention import SlidingAttention

ROWS, TIME, HIDDEN = 2, 7, 6


@pytest.mark.parametrize("window", [1, 3, 12])
def test_each_state_attends_only_to_the_states_before_it(window):
    layer, hidden = SlidingAttention(HIDDEN, 4, window), torch.randn(ROWS, TIME, HIDDEN)
    contexts, alphas, _ = layer(hidden, layer.initial_window(ROWS))
    assert alphas.shape == (ROWS, TIME, window)
    for row in range(ROWS):
        query, key, value = layer.qkv(hidden[row]).chunk(3, dim=-1)
        for t in range(TIME):
            positions = range(max(0, t - window), t)
            context, weights = torch.zeros(4), torch.zeros(window)
            if positions:
                scores = torch.stack([query[t] @ key[position] / math.sqrt(4) for position in positions])
                weights[window - t + positions[0] :] = scores.softmax(dim=0)
                context = sum(weights[window - t + position] * value[position] for position in positions)
            torch.testing.assert_close(alphas[row, t], weights)
            torch.testing.assert_close(contexts[row, t], layer.output(context))
