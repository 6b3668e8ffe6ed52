"""Synthetic captioned images: two colored shapes and their relation; learnable in minutes, no download."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

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


def draw(rng: random.Random) -> tuple[Image.Image, str]:
    """Draw an image and return it with its one true caption; the left or upper shape is named first."""
    shade = rng.randint(200, 255)
    image = Image.new("RGB", (SIDE, SIDE), (shade, shade, shade))
    canvas = ImageDraw.Draw(image)
    is_beside = rng.random() < 0.5
    words = []
    for place in range(2):
        size, color, shape = rng.choice(list(SIZES)), rng.choice(list(COLORS)), rng.choice(SHAPES)
        radius = SIZES[size]
        # along the relation each shape keeps to its half; across it they may differ by little
        along = rng.randint(place * 32 + radius + 1, place * 32 + 31 - radius)
        across = rng.randint(24, 40)
        draw_shape(canvas, shape, color, (along, across) if is_beside else (across, along), radius)
        words.append(f"a {size} {color} {shape}")
    return image, f" {'left of' if is_beside else 'above'} ".join(words)


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
        rng = random.Random(f"{self.seed}-{split}")
        folder = self.root / split
        drawn = [draw(rng) for _ in range(self.counts[split])]
        names = [f"{i:05d}.png" for i in range(len(drawn))]
        if not folder.is_dir():
            self._save([image for image, _ in drawn], names, folder)
        return [CaptionedImage(name, folder / name, (text,)) for name, (_, text) in zip(names, drawn, strict=True)]

    def _save(self, images: list[Image.Image], names: list[str], folder: Path) -> None:
        with temporary_folder(self.root) as temporary:
            split = temporary / folder.name
            split.mkdir()
            for image, name in zip(images, names, strict=True):
                image.save(split / name)
            try:
                split.replace(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
