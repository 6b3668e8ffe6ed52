"""Cached features in the memory of the device on which a model is trained."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.data.captions.features import FeatureCache
from attendgen.layers.encoder import Features
from attendgen.utils.progress import track


class ResidentFeatures:
    """The features of all views in the memory of a device."""

    def __init__(self, caches: Sequence[FeatureCache], device: torch.device, each: int = 1024) -> None:
        self.values = _copy_rows([cache.rows for cache in caches], device, each)
        masks = [cache.mask for cache in caches if cache.mask is not None]
        self.mask = _copy_rows(masks, device, each) if masks else None

    def take(self, positions: Int[Tensor, " batch"]) -> Float[Tensor, "batch regions dim"] | Features:
        """Return the features at positions in all views, one after the other."""
        values = self.values[positions]
        return values if self.mask is None else Features(values, self.mask[positions])


def _copy_rows(arrays: Sequence[np.ndarray], device: torch.device, each: int) -> Tensor:
    """Return arrays as one tensor on a device, reading `each` rows at a time."""
    parts = [array[start : start + each] for array in arrays for start in range(0, len(array), each)]
    rows = sum(len(array) for array in arrays)
    whole = torch.empty(rows, *arrays[0].shape[1:], dtype=torch.from_numpy(arrays[0][:1].copy()).dtype, device=device)
    done = 0
    for part in track(parts, "features to the device", "parts"):
        whole[done : done + len(part)] = torch.from_numpy(part.copy())
        done += len(part)
    return whole
