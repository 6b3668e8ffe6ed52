import pytest
import torch

from attendgen.decoding.protocol import over_text, pieces_over_text


def test_weights_of_places_before_lie_over_the_text():
    # two outputs after three symbols: the first is predicted after the third, the second after the first output
    text = over_text(torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.6, 0.4]]), 3)
    assert text.tolist() == [pytest.approx([0.2, 0.7, 0, 0, 0]), pytest.approx([0.0, 0.6, 0.4, 0, 0])]


def test_weights_of_windows_before_pieces_lie_over_the_text():
    # a window of four, three outputs after three symbols, in pieces of two
    weights = [[0.2, 0.3, 0.5, 0.0], [0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]]
    text = pieces_over_text(torch.tensor(weights), 3, 2)
    expected = [[0.2, 0.3, 0.5, 0, 0, 0], [0.6, 0.3, 0.1, 0, 0, 0], [0, 0.1, 0.2, 0.3, 0.4, 0]]
    torch.testing.assert_close(text, torch.tensor(expected))


def test_a_window_may_be_longer_than_the_text():
    text = pieces_over_text(torch.tensor([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]]), 1, 1)
    torch.testing.assert_close(text, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]))
