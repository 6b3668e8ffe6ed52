"""Images of any size and mode as square RGB bytes."""

import random
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from attendgen.utils.errors import UserError, describe_refusal

# a large photograph is opened; what is too large to be safe is an error
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(path: str | Path) -> Image.Image:
    """Open an image file as upright RGB: EXIF rotation applied, transparency on white.

    Raises:
        UserError: the file is missing, not an image, truncated, or of too many pixels.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = turn_upright(image)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image; give the path of an image file") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image in a known format; save it as PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: cannot be read: {describe_refusal(error)}") from error
        raise UserError(f"{path}: corrupt or truncated image ({error}); copy or save it again") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large to be opened safely ({error}); save it smaller") from error
    return to_rgb(upright)


def turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF rotation; an image whose EXIF block is damaged is returned as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow's readers of EXIF raise errors of many kinds
        return image.copy()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB."""
    if image.mode.startswith(("I", "F")):  # 16-bit and float grays would be clipped, not scaled
        gray = np.asarray(image, dtype=np.float64)
        finite = gray[np.isfinite(gray)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        scaled = (np.clip(np.nan_to_num(gray, nan=low), low, high) - low) / (high - low or 1) * 255
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


# Part of every feature cache's key. Raise it when `open_image`, `to_pixels` or `augment` gives other pixels of the same
# file than before: features that were computed from the former pixels are then computed again.
PREPROCESSING = 1


def to_pixels(image: Image.Image, size: int) -> UInt8[Tensor, "3 size size"]:
    """Resize an image to a square; the whole image, not a crop, so that nothing it shows is lost."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def augment(image: Image.Image, view: int, name: str) -> Image.Image:
    """Return one view of an image: 0 is the image, 1 its mirror image, each further one a crop.

    A crop keeps at least three quarters of the area, in about the same shape; odd views are mirrored. The region
    depends on the image's `name` and on the view alone.
    """
    if view > 1:
        rng = random.Random(f"{view}-{name}")
        area, stretch = rng.uniform(0.75, 1.0), rng.uniform(0.9, 1 / 0.9)
        wide, high = (min(1.0, (area * ratio) ** 0.5) for ratio in (stretch, 1 / stretch))
        left, top = rng.uniform(0, 1 - wide), rng.uniform(0, 1 - high)
        edges = (left, top, left + wide, top + high)
        image = image.crop(tuple(round(edge * size) for edge, size in zip(edges, image.size * 2, strict=True)))
    return ImageOps.mirror(image) if view % 2 else image
