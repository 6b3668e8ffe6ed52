import pytest
import torch

from attendgen.decoding.attention_maps import spread_over_text


def test_window_weights_move_to_their_tokens():
    # two outputs after three tokens: the first is predicted after the third, the second after the first output
    text = spread_over_text(torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.6, 0.4]]), 3)
    assert text.tolist() == [pytest.approx([0.2, 0.7, 0, 0, 0]), pytest.approx([0.0, 0.6, 0.4, 0, 0])]


def test_window_may_be_longer_than_the_text():
    text = spread_over_text(torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]), 1)
    assert text.tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
