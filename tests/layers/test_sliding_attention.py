import math

import pytest
import torch

from attendgen.layers.sliding_attention import SlidingAttention

ROWS, TIME, HIDDEN = 2, 7, 6


@pytest.mark.parametrize("reach", [1, 3, 12])
def test_each_state_attends_to_those_before_it_alone(reach):
    layer, hidden = SlidingAttention(HIDDEN, 4, reach), torch.randn(ROWS, TIME, HIDDEN)
    contexts, alphas, _ = layer(hidden, layer.initial_state(ROWS))
    assert alphas.shape == (ROWS, TIME, reach)
    for row in range(ROWS):
        query, key, value = layer.keys(hidden[row]).chunk(3, dim=-1)
        for t in range(TIME):
            places = range(max(0, t - reach), t)
            context, weights = torch.zeros(4), torch.zeros(reach)
            if places:
                scores = torch.stack([query[t] @ key[place] / math.sqrt(4) for place in places])
                weights[reach - t + places[0] :] = scores.softmax(dim=0)
                context = sum(weights[reach - t + place] * value[place] for place in places)
            torch.testing.assert_close(alphas[row, t], weights)
            torch.testing.assert_close(contexts[row, t], layer.output(context))
