"""Where the regions of an image lie that a model attends to."""

from pathlib import Path
from typing import Any

import torch

from attendgen.data.captions.images import open_image, to_pixels
from attendgen.visualization.regions import Regions, locate_regions


def locate_in_image(encoder: Any, image: Path, device: torch.device) -> Regions:
    """Return where the regions of an encoder lie in an image.

    Raises:
        UserError: the file is missing or not an image.
    """
    pixels = to_pixels(open_image(image), encoder.size).unsqueeze(0)
    (regions,) = locate_regions(encoder, pixels.to(device))
    return regions
