"""Synthetic captioned images: two colored shapes and their relation; learnable in minutes, no download."""

import random
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from attendgen.data.captions.boxes import Box, WordBoxes
from attendgen.data.captions.sources import CaptionedImage
from attendgen.utils.errors import UserError
from attendgen.utils.files import temporary_folder

COLORS = {
    "red": (215, 48, 39),
    "green": (35, 139, 69),
    "blue": (49, 90, 200),
    "yellow": (240, 200, 30),
    "purple": (136, 65, 157),
    "black": (25, 25, 25),
}


SIZES = {"small": 6, "large": 11}  # half the width in pixels


SHAPES = ("circle", "square", "triangle")


SIDE = 64


COUNTS = {"train": 4000, "val": 500, "test": 500}


def draw_shape(canvas: ImageDraw.ImageDraw, shape: str, color: str, center: tuple[int, int], radius: int) -> None:
    """Draw one filled shape."""
    x, y = center
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        canvas.ellipse(box, COLORS[color])
    elif shape == "square":
        canvas.rectangle(box, COLORS[color])
    else:
        canvas.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], COLORS[color])


class Drawn(NamedTuple):
    """An image, its one true caption, and the boxes of the words that name a shape, its color or its size."""

    image: Image.Image
    caption: str
    words: dict[str, list[Box]]


def draw(rng: random.Random) -> Drawn:
    """Draw an image; the left or upper shape is named first."""
    shade = rng.randint(200, 255)
    image = Image.new("RGB", (SIDE, SIDE), (shade, shade, shade))
    canvas = ImageDraw.Draw(image)
    is_beside = rng.random() < 0.5
    phrases: list[str] = []
    words: dict[str, list[Box]] = {}
    for place in range(2):
        size, color, shape = rng.choice(list(SIZES)), rng.choice(list(COLORS)), rng.choice(SHAPES)
        radius = SIZES[size]
        # along the relation each shape keeps to its half; across it they may differ by little
        along = rng.randint(place * 32 + radius + 1, place * 32 + 31 - radius)
        across = rng.randint(24, 40)
        x, y = (along, across) if is_beside else (across, along)
        draw_shape(canvas, shape, color, (x, y), radius)
        phrases.append(f"a {size} {color} {shape}")
        box = Box(*(edge / SIDE for edge in (x - radius, y - radius, x + radius, y + radius)))
        for word in (size, color, shape):
            words.setdefault(word, []).append(box)
    return Drawn(image, f" {'left of' if is_beside else 'above'} ".join(phrases), words)


class Shapes:
    """Draw the splits as PNG files the first time they are read.

    Args:
        root: folder for the images.
        seed: another seed gives other images.
        counts: images per split.
    """

    def __init__(self, root: str, seed: int = 0, counts: dict[str, int] | None = None) -> None:
        self.counts = dict(counts or COUNTS)
        digits = "-".join(str(count) for count in self.counts.values())
        self.root = Path(root) / f"shapes-{seed}-{digits}"
        self.seed = seed

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read or draw a split."""
        if split not in self.counts:
            raise UserError(f"data.source.counts: no split {split!r}; there are {', '.join(self.counts)}")
        folder, drawn = self.root / split, self._draw(split)
        if not folder.is_dir():
            self._save({name: found.image for name, found in drawn.items()}, folder)
        return [CaptionedImage(name, folder / name, (found.caption,)) for name, found in drawn.items()]

    def locate_words(self, split: str) -> WordBoxes:
        """Return the boxes of each image's words."""
        return {name: found.words for name, found in self._draw(split).items()}

    def _draw(self, split: str) -> dict[str, Drawn]:
        """Draw a split; the images by their file names."""
        rng = random.Random(f"{self.seed}-{split}")
        return {f"{i:05d}.png": draw(rng) for i in range(self.counts[split])}

    def _save(self, images: dict[str, Image.Image], folder: Path) -> None:
        with temporary_folder(self.root) as temporary:
            split = temporary / folder.name
            split.mkdir()
            for name, image in images.items():
                image.save(split / name)
            try:
                split.replace(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
