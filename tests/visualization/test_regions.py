"""Weights of regions over an image: grids that are no square, class tokens, boxes, and no place at all."""

import numpy as np
import pytest
from PIL import Image

from attendgen.utils.errors import UserError
from attendgen.visualization import plotting
from attendgen.visualization.regions import Boxes, Grid, locate_regions, spread_weights


@pytest.mark.parametrize(("rows", "columns", "leading"), [(2, 5, 0), (6, 3, 0), (4, 4, 1), (1, 7, 2)])
def test_the_brightest_pixel_is_in_the_attended_region(rows, columns, leading):
    for cell in range(rows * columns):
        weights = np.full(leading + rows * columns, 0.01)
        weights[:leading] = 9.0  # of no place
        weights[leading + cell] = 0.5
        light = spread_weights(weights, Grid(rows, columns, leading), 10 * rows, 10 * columns)
        assert light.max() < 1
        y, x = np.unravel_index(light.argmax(), light.shape)
        assert (y // 10, x // 10) == divmod(cell, columns)


def test_a_pixel_has_the_largest_weight_of_its_boxes():
    corners = np.array([[0, 0, 0.5, 1], [0.25, 0.5, 1, 1], [0.9, 0.9, 0.9, 0.9]])
    light = spread_weights(np.array([0.2, 0.7, 0.1, 0.0]), Boxes(corners), 8, 8)  # the last region is padding
    expected = np.zeros((8, 8))
    expected[:, :4] = 0.2
    expected[4:, 2:] = 0.7
    assert np.array_equal(light, expected)  # an empty box lights one pixel at least, here below another


def test_fewer_weights_than_regions_are_refused():
    with pytest.raises(UserError, match="14 x 14 regions and 1 without a place, but 196 attention weights"):
        spread_weights(np.ones(196), Grid(14, 14, 1), 8, 8)
    with pytest.raises(UserError, match="2 boxes, but 1 attention weights"):
        spread_weights(np.ones(1), Boxes(np.zeros((2, 4))), 8, 8)


def test_regions_without_a_place_are_a_heat_map_of_words_over_regions():
    alpha = np.array([[0.1, 0.9, 0.0], [0.5, 0.25, 0.25]])
    figure = plotting.plot_caption(Image.new("RGB", (9, 9)), ["a", "dog"], alpha, None, "a dog")
    (heat,) = figure.axes[0].images
    assert np.array_equal(np.asarray(heat.get_array()), alpha)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2", "3"]


def test_an_encoder_that_says_nothing_has_no_places():
    assert locate_regions(object(), [1, 2]) == [None, None]
