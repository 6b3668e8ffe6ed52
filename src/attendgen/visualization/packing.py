"""Attention weights, images and probabilities in the small form that the attention page holds."""

import base64
import io
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from attendgen.visualization.regions import Boxes, Regions

STEPS = 255  # of a row's weights, from 0 to the greatest
PICTURE = 110_000  # bytes of an image, at most
# pixels of the longer side, and quality of a JPEG file; the first with which it is small enough are used
QUALITIES = ((720, 82), (720, 65), (560, 65), (420, 60), (320, 50), (240, 40))

Row = tuple[int, float, str]


def pack_weights(weights: Float[np.ndarray, "tokens source"]) -> list[Row]:
    """Return each row's weights as (first column, greatest weight, bytes in base64).

    A byte of 255 is the greatest weight of the row; columns before and after the bytes are 0. A weight that is not a
    number is 0.
    """
    rows = []
    for row in np.nan_to_num(weights, posinf=0.0, neginf=0.0):
        peak = float(row.max(initial=0.0))
        steps = np.rint(row.clip(0) / (peak or 1) * STEPS).astype(np.uint8)
        (filled,) = steps.nonzero()
        first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        rows.append((first, round_number(peak) or 0.0, base64.b64encode(steps[first:last].tobytes()).decode()))
    return rows


def pack_picture(image: Image.Image) -> dict[str, Any]:
    """Return an image as a data URL of a small JPEG file, with its width and height."""
    small, written = image.convert("RGB"), b""
    for side, quality in QUALITIES:
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        written = buffer.getvalue()
        if len(written) <= PICTURE:
            break
    source = f"data:image/jpeg;base64,{base64.b64encode(written).decode()}"
    return {"source": source, "width": small.width, "height": small.height}


def pack_regions(regions: Regions) -> dict[str, Any] | None:
    """Return where regions lie in an image, as plain data."""
    if regions is None:
        return None
    if isinstance(regions, Boxes):
        return {"boxes": [[round(float(share), 4) for share in box] for box in regions.corners]}
    return {"grid": [regions.rows, regions.columns, regions.leading]}


def round_number(value: float) -> float | None:
    """Return a number with four significant digits; None for one that is not finite, which JSON has no word for."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def to_probability(log_prob: float) -> float | None:
    """Return the probability of a natural logarithm, see `round_number`."""
    return 0.0 if log_prob == -math.inf else round_number(math.exp(min(log_prob, 0.0)))
