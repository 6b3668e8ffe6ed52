"""Learning-rate schedules as factors of the optimizer's rate, by step."""

import math

from attendgen.utils.errors import UserError


class WarmupCosine:
    """Linear warm-up, then half a cosine down to `final` (Loshchilov and Hutter 2017, equation 5).

    The number of steps is an argument: asking the trainer for it would build the loaders before a run is resumed.

    Args:
        steps: of the training.
        warmup: steps until the full rate; one that is longer than the training is shortened to a tenth of it.
        final: factor after the last step.

    Raises:
        UserError: one is out of range.
    """

    def __init__(self, steps: int, warmup: int = 0, final: float = 0.0) -> None:
        if steps < 1:
            raise UserError(f"task.schedule.steps={steps}: a cosine needs to know its length; set steps=N")
        if warmup < 0:
            raise UserError(f"task.schedule.warmup={warmup}: expected a whole number from 0")
        if not 0 <= final <= 1:
            raise UserError(f"task.schedule.final={final}: expected a number from 0 to 1")
        self.steps = steps
        self.given_warmup = warmup
        self.warmup = warmup if warmup <= steps else steps // 10
        self.final = final

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


class Constant:
    """The optimizer's own learning rate at every step."""

    def __call__(self, step: int) -> float:  # noqa: ARG002
        """Return 1."""
        return 1.0
