"""An exponential moving average of the weights."""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from attendgen.utils.errors import UserError


class EMA(WeightAveraging):
    """Average the weights over about the last 1 / (1 - decay) steps (Polyak and Juditsky 1992).

    Validation, the best checkpoint and everything done with a run use the average; training continues from its own
    weights. The decay of step n is min(decay, (1 + n) / (10 + n)), so that the initial weights are forgotten quickly.

    Args:
        decay: of the average per step, between 0 and 1.

    Raises:
        UserError: the decay is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f"callbacks.ema.decay={decay}: must lie between 0 and 1")

        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():  # a counter of batches
                return current
            step = torch.as_tensor(9 / (10 + updates)).clamp(min=1 - decay)
            return averaged.lerp(current, step.to(averaged))

        super().__init__(avg_fn=average)
