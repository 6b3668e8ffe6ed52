"""Results with known weights, and the data of an attention page as a reader finds it."""

import base64
import json
import re
from typing import Any

import numpy as np

from attendgen.inference.result import Result
from attendgen.visualization.regions import Grid, Regions

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 'quoted' \"twice\""


def make_result(
    tokens: list[str],
    attention: np.ndarray,
    source: list[str] | None = None,
    regions: Regions = None,
    text: str | None = None,
    score: float = -1.5,
    **more: Any,
) -> Result:
    """Return an output whose token t has the probability 1 / (t + 2)."""
    log_probs = -np.log(np.arange(len(tokens)) + 2.0)
    text = " ".join(token for token in tokens if token != "<eos>") if text is None else text
    return Result(text, tokens, score, log_probs, source or [], attention.astype(float), regions, **more)


def make_caption(words: str, places: list[int], size: int = 3, share: float = 0.68, **more: Any) -> Result:
    """Return a caption each of whose words looks at one place of a grid with a share of its weight."""
    tokens = words.split()
    attention = np.full((len(tokens), size * size), (1 - share) / (size * size - 1))
    attention[range(len(tokens)), places] = share
    return make_result(tokens, attention, regions=Grid(size, size), **more)


def read_data(page: str) -> Any:
    """Return the data that a page holds."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def unpack(output: dict[str, Any]) -> np.ndarray:
    """Return the weights of an output of a page."""
    weights = np.zeros((len(output["weights"]), output["width"]))
    for row, (start, peak, text) in zip(weights, output["weights"], strict=True):
        steps = np.frombuffer(base64.b64decode(text), np.uint8)
        row[start : start + len(steps)] = steps / 255 * peak
    return weights
