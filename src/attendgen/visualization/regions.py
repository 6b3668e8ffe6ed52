"""Where the regions that a model attends to lie in an image."""

from collections.abc import Sequence, Sized
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from attendgen.utils.errors import UserError


class Grid(NamedTuple):
    """Regions that share the whole image, row by row.

    Attributes:
        leading: number of regions before those of the grid that have no place in the image, such as a class token.
    """

    rows: int
    columns: int
    leading: int = 0


class Boxes(NamedTuple):
    """Regions as boxes, which may overlap: left, top, right and bottom as shares of the image's width and height."""

    corners: Float[np.ndarray, "regions 4"]


Regions = Grid | Boxes | None  # None: the regions have no place in the image


def locate_regions(encoder: object, images: Sized) -> Sequence[Regions]:
    """Return where the regions of an encoder lie in each image, as its method `locate` says.

    Args:
        images: what the encoder is called with: bytes [batch, 3, size, size].
    """
    locate = getattr(encoder, "locate", None)
    return [None] * len(images) if locate is None else locate(images)


def spread_weights(
    weights: Float[np.ndarray, "regions"], regions: Grid | Boxes, height: int, width: int
) -> Float[np.ndarray, "height width"]:
    """Spread the weights of regions over an image of any shape.

    Encoders resize the whole image to a square, so a grid covers all of it; its weights are smoothed by a Gaussian. A
    pixel in several boxes has the largest of their weights.

    Raises:
        UserError: there are fewer weights than regions.
    """
    weights = np.nan_to_num(weights)  # a diverged model must not stop the plots of its training
    if isinstance(regions, Boxes):
        return _fill_boxes(weights, regions.corners, height, width)
    rows, columns, leading = regions
    if len(weights) != leading + rows * columns or not rows * columns:
        raise UserError(
            f"model.encoder: {rows} x {columns} regions and {leading} without a place, but {len(weights)} attention "
            "weights; correct its method `locate`"
        )
    grid = weights[leading:].reshape(rows, columns)
    return _smoothing(height, rows) @ grid @ _smoothing(width, columns).T


def _fill_boxes(
    weights: Float[np.ndarray, "regions"], corners: Float[np.ndarray, "boxes 4"], height: int, width: int
) -> Float[np.ndarray, "height width"]:
    """Return the largest weight of the boxes that hold each pixel; regions after the last box are padding."""
    if len(corners) > len(weights):
        raise UserError(
            f"model.encoder: {len(corners)} boxes, but {len(weights)} attention weights; correct its method `locate`"
        )
    light = np.zeros((height, width))
    for (left, top, right, bottom), weight in zip(corners, weights, strict=False):
        rows = slice(round(top * height), max(round(bottom * height), round(top * height) + 1))
        columns = slice(round(left * width), max(round(right * width), round(left * width) + 1))
        light[rows, columns] = np.maximum(light[rows, columns], weight)
    return light


def _smoothing(pixels: int, cells: int) -> Float[np.ndarray, "pixels cells"]:
    """Return the normalized Gaussian weights of the cells for each pixel, with a standard deviation of half a cell."""
    centers = (np.arange(pixels) + 0.5) / pixels * cells
    kernel = np.exp(-0.5 * ((centers[:, None] - np.arange(cells) - 0.5) / 0.5) ** 2)
    return kernel / kernel.sum(axis=1, keepdims=True)
