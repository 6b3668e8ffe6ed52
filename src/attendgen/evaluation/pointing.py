"""How often the largest attention weight falls into the box of a word: the pointing game (Zhang et al. 2016, 4.2)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from attendgen.data.captions.boxes import Box, LocatedSource, WordBoxes, read_word_boxes, require_images
from attendgen.data.module import BaseDataModule
from attendgen.inference.regions import locate_in_image
from attendgen.inference.result import Result
from attendgen.tasks.base import BaseTask
from attendgen.text.spelling import find_phrase
from attendgen.utils.errors import UserError
from attendgen.visualization.regions import Grid, Regions

OWN = "own"  # the boxes that the data has


class Looked(NamedTuple):
    """How one word was looked at.

    Attributes:
        hit: whether the region with the largest weight is in a box of the word.
        chance: share of all regions that are.
        center: whether the region in the middle of the image is; a share if several are equally near.
        weight: sum of the weights of the regions in the boxes.
    """

    hit: float
    chance: float
    center: float
    weight: float


class PointingGame:
    """Compares the attention of each word with the boxes of the word, over a split.

    A region counts as in a box if its center is; a cell of a grid also if it holds the center of the box, so that
    every box has one. A word with several boxes may look at any of them.

    Args:
        links: the boxes of each image's words.
        images: the id of each example's image.
        locate: returns where the regions lie in the image of an example.
    """

    def __init__(self, links: WordBoxes, images: Sequence[str | int], locate: Callable[[int], Regions]) -> None:
        self.links = links
        self.images = images
        self.locate = locate
        self.looked: list[Looked] = []

    def add(self, index: int, result: Result) -> None:
        """Add the caption of an example."""
        words = self.links.get(str(self.images[index]))
        if not words:
            return
        regions = self.locate(index)
        if regions is None:  # they have no place in this image
            return
        self.looked += [measure(result.attention[row], boxes, regions) for row, boxes in link_words(result, words)]

    def compute(self) -> dict[str, int | float]:
        """Return the means over all words; their number alone if no caption has a word with a box."""
        if not self.looked:
            return {"pointing_words": 0}
        hit, chance, center, weight = (float(np.mean(values)) for values in zip(*self.looked, strict=True))
        return {
            "pointing": hit,
            "pointing_chance": chance,
            "pointing_center": center,
            "pointing_weight": weight,
            "pointing_words": len(self.looked),
        }


def link_words(result: Result, words: Mapping[str, list[Box]]) -> list[tuple[int, list[Box]]]:
    """Return the tokens of a caption that have boxes, with these; of a phrase its last token, of two the longer one."""
    runs = [(run, boxes) for word, boxes in words.items() for run in find_phrase(result.tokens, word, result.text)]
    taken: set[int] = set()
    found = []
    for run, boxes in sorted(runs, key=lambda item: (-len(item[0]), item[0].start)):
        if not taken & set(run):
            taken |= set(run)
            found.append((run[-1], boxes))
    return sorted(found, key=lambda item: item[0])


def measure(weights: Float[np.ndarray, "regions"], boxes: Sequence[Box], regions: Regions) -> Looked:
    """Return how a word was looked at."""
    corners = list_corners(regions)
    leading = regions.leading if isinstance(regions, Grid) else 0
    placed = weights[leading : leading + len(corners)]
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    inside = find_inside(corners, centers, boxes, holding=isinstance(regions, Grid))
    distances = np.square(centers - 0.5).sum(axis=1)
    best = int(weights.argmax()) - leading
    return Looked(
        float(0 <= best < len(inside) and inside[best]),
        float(inside.mean()),
        float(inside[np.isclose(distances, distances.min())].mean()),
        float(placed[inside].sum()),
    )


def list_corners(regions: Regions) -> Float[np.ndarray, "regions 4"]:
    """Return left, top, right and bottom of each region that has a place."""
    assert regions is not None
    if not isinstance(regions, Grid):
        return np.asarray(regions.corners, dtype=float)
    rows, columns = np.divmod(np.arange(regions.rows * regions.columns), regions.columns)
    edges = np.stack([columns, rows, columns + 1, rows + 1], axis=1)
    return edges / np.array([regions.columns, regions.rows] * 2)


def find_inside(
    corners: Float[np.ndarray, "regions 4"],
    centers: Float[np.ndarray, "regions 2"],
    boxes: Sequence[Box],
    holding: bool,
) -> Bool[np.ndarray, "regions"]:
    """Return which regions are in a box.

    Args:
        holding: also those that hold the center of a box.
    """
    inside = [any(box.holds(x, y) for box in boxes) for x, y in centers]
    if holding:
        middles = [((box.left + box.right) / 2, (box.top + box.bottom) / 2) for box in boxes]
        inside = [
            found or any(Box(*corner).holds(x, y) for x, y in middles)
            for found, corner in zip(inside, corners, strict=True)
        ]
    return np.array(inside)


def make_pointing_game(task: BaseTask[Any], data: BaseDataModule[Any], boxes: str) -> PointingGame:
    """Return the pointing game of the split that is opened.

    Args:
        boxes: a JSON file of links, or "own".

    Raises:
        UserError: the task captions no images, the data has no boxes of its own, or the file is broken or of other
            images.
    """
    if task.family != "captioner":
        raise UserError(f"attention={boxes}: only captioners look at boxes; leave it out")
    captions: Any = data  # the task is checked, not the data module's type
    model: Any = task.model
    source, split = captions.source, data.eval_split
    if boxes == OWN and not isinstance(source, LocatedSource):
        raise UserError(f"attention=own: {type(source).__name__} has no boxes of its own; give attention=FILE.json")
    links = source.locate_words(split) if boxes == OWN else read_word_boxes(Path(boxes))
    images, rows, encoder = data.inputs(split), captions.rows(split), model.encoder
    require_images(links, images, f"attention={boxes}")
    if not hasattr(encoder, "locate"):
        raise UserError(f"attention={boxes}: where the regions lie is not known: the encoder has no method `locate`")
    grids: list[Grid] = []  # a grid is the same for all images

    def locate(index: int) -> Regions:
        if grids:
            return grids[0]
        regions = locate_in_image(encoder, rows[index].path, task.device)
        if isinstance(regions, Grid):
            grids.append(regions)
        return regions

    return PointingGame(links, images, locate)
