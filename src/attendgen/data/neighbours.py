"""Training pictures that look like a picture, and what was written of them."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.data.batch import pad

LEAST_DEVIATION = 1e-3  # of a number that hardly differs between pictures


class Neighbours:
    """The captions of the nearest training pictures (Devlin et al. 2015, Exploring nearest neighbor approaches, 3).

    Pictures are near by the cosine of their mean annotation vectors, whose numbers are standardised over the training
    pictures: otherwise the few that are always large would decide.

    Args:
        means: mean annotation vectors of the training pictures.
        captions: the ids of each one's captions.
        number: of neighbours, at most as many as there are pictures.
    """

    def __init__(self, means: Float[Tensor, "pictures dim"], captions: Sequence[list[list[int]]], number: int) -> None:
        self.captions = captions
        self.number = number
        self.mean = means.mean(dim=0)
        self.deviation = means.std(dim=0, correction=0) + LEAST_DEVIATION
        self.directions = self._direction(means)

    def _direction(self, means: Float[Tensor, "pictures dim"]) -> Float[Tensor, "pictures dim"]:
        return functional.normalize((means - self.mean) / self.deviation, dim=-1)

    def nearest(self, annotations: Float[Tensor, "batch regions dim"]) -> Int[Tensor, "batch number"]:
        """The training pictures' indices, the nearest first."""
        queries = self._direction(annotations.mean(dim=1).to(self.directions))
        return (queries @ self.directions.T).topk(self.number, dim=1).indices

    def __call__(self, annotations: Float[Tensor, "batch regions dim"]) -> list[Int[Tensor, "_m _length"]]:
        """All captions of each picture's neighbours, padded."""
        chosen = self.nearest(annotations).tolist()
        said = [pad([ids for index in indices for ids in self.captions[index]]) for indices in chosen]
        return [rows.to(annotations.device) for rows in said]
