"""The greatest numbers of each row."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64  # numbers
MANY = 2**13  # numbers of a row: with fewer, or if many are wanted, blocks save nothing


def find_greatest(
    values: Float[Tensor, "rows numbers"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """Return the `count` greatest numbers of each row, in descending order, and their places.

    On a CPU, `torch.topk` takes longer than the maxima of blocks: the greatest numbers stand in the blocks of the
    greatest maxima.
    """
    numbers = values.size(1)
    if values.device.type != "cpu" or numbers < MANY or 4 * count * BLOCK > numbers:
        best = values.topk(count, dim=1)
        return best.values, best.indices
    whole = numbers // BLOCK * BLOCK
    maxima = values[:, :whole].unflatten(1, (-1, BLOCK)).amax(dim=2)
    starts = maxima.topk(count, dim=1).indices.unsqueeze(2) * BLOCK
    places = (starts + torch.arange(BLOCK)).flatten(1)
    rest = torch.arange(whole, numbers).expand(len(values), -1)
    places = torch.cat([places, rest], dim=1)
    best = values.gather(1, places).topk(count, dim=1)
    return best.values, places.gather(1, best.indices)
