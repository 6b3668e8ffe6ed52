"""Learning-rate schedules as factors of the optimizer's rate, by step."""

import math

from attendgen.utils.errors import UserError


class WarmupCosine:
    """Linear warm-up, then half a cosine down to `final` (Loshchilov and Hutter 2017, equation 5).

    The number of steps is an argument: asking the trainer for it would build the loaders before a run is resumed.
    """

    def __init__(self, steps: int, warmup: int = 0, final: float = 0.0) -> None:
        if steps < 1:
            raise UserError(f"task.schedule.steps={steps}: a cosine needs to know its length; set steps=N")
        self.steps = steps
        self.warmup = warmup
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
