import pytest
import torch

from attendgen.decoding.attention_maps import spread_over_text


def test_weights_of_places_before_lie_over_the_text():
    # two outputs after three symbols: the first is predicted after the third, the second after the first output
    text = spread_over_text(torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.6, 0.4]]), 3)
    assert text.tolist() == [pytest.approx([0.2, 0.7, 0, 0, 0]), pytest.approx([0.0, 0.6, 0.4, 0, 0])]
