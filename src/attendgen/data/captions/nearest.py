"""Captions of the training images that are most similar to an image."""

import copy
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.data.batch import pad
from attendgen.layers.encoder import Features, average_regions, split_mask

MIN_STD = 1e-3  # of a feature that hardly differs between images


class NearestCaptions:
    """The captions of the nearest training images (Devlin et al. 2015, Exploring nearest neighbor approaches, 3).

    The distance of images is the cosine of their mean features, standardized over the training images; otherwise the
    few features that are always large would dominate.

    Args:
        means: mean features of the training images.
        captions: the ids of each one's captions.
        number: of nearest images, at most as many as there are.
    """

    def __init__(
        self, means: Float[Tensor, "images dim"], captions: Sequence[list[list[int]]], number: int = 1
    ) -> None:
        self.captions = captions
        self.number = number
        self.mean = means.mean(dim=0)
        self.std = means.std(dim=0, correction=0) + MIN_STD
        self.directions = self._normalize(means)

    def limit(self, number: int) -> "NearestCaptions":
        """Return an index of the same images that finds the captions of this many."""
        limited = copy.copy(self)
        limited.number = number
        return limited

    def _normalize(self, means: Float[Tensor, "images dim"]) -> Float[Tensor, "images dim"]:
        return functional.normalize((means - self.mean) / self.std, dim=-1)

    def find(self, features: Float[Tensor, "batch regions dim"] | Features) -> Int[Tensor, "batch number"]:
        """Return the indices of the nearest training images, the nearest first."""
        queries = self._normalize(average_regions(*split_mask(features)).to(self.directions))
        return (queries @ self.directions.T).topk(self.number, dim=1).indices

    def __call__(self, features: Float[Tensor, "batch regions dim"] | Features) -> list[Int[Tensor, "_m _length"]]:
        """Return all captions of each image's nearest training images, padded."""
        chosen = self.find(features).tolist()
        captions = [[ids for index in indices for ids in self.captions[index]] for indices in chosen]
        padded = pad([ids for rows in captions for ids in rows]).to(split_mask(features)[0].device, non_blocking=True)
        return list(padded.split([len(rows) for rows in captions]))
