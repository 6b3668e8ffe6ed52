"""An exponential moving average of the weights, which is what is validated, kept and used."""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from attendgen.errors import UserError


class Average(WeightAveraging):
    """Averages the weights over the last 1 / (1 - decay) steps or so (Polyak and Juditsky 1992).

    Training goes on from its own weights; validation, the best checkpoint, and whatever is done with a run take the
    average. Early in training the average is shorter, over a ninth of the steps so far, lest it remember the first
    weights: the decay of step n is min(decay, (1 + n) / (10 + n)).

    Args:
        decay: of the average, a step; above 0 and below 1.

    Raises:
        UserError: the decay is not.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f"callbacks.average.decay={decay}: must lie between 0 and 1")

        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():  # a counter of batches
                return current
            share = torch.as_tensor(9 / (10 + updates)).clamp(min=1 - decay)
            return averaged.lerp(current, share.to(averaged))

        super().__init__(avg_fn=average)
