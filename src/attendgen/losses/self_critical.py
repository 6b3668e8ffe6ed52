"""Self-critical sequence training: raise the probability of captions that score above a baseline."""

from jaxtyping import Float
from torch import Tensor

from attendgen.errors import UserError

BASELINES = ("leave_one_out", "greedy")


class SelfCritical:
    """The settings of self-critical training (Rennie et al. 2017).

    Args:
        samples: captions drawn of each picture.
        baseline: "greedy", the score of the caption that greedy decoding writes (equation 8 there), or "leave_one_out",
            the mean score of the picture's other samples (Luo 2020), which needs no decoding.
        temperature: of the samples; the distribution at this temperature is what is trained. Below 1 they come near to
            what greedy decoding writes; at 1, where any further word may be a slip, what pays first is to end early.

    Raises:
        UserError: there is no such baseline, one sample is to be compared with the others, or the temperature is not
            above 0.
    """

    def __init__(self, samples: int = 5, baseline: str = "leave_one_out", temperature: float = 1.0) -> None:
        if baseline not in BASELINES:
            raise UserError(f"task.self_critical.baseline={baseline}: unknown; choose one of {', '.join(BASELINES)}")
        least = 2 if baseline == "leave_one_out" else 1
        if samples < least:
            raise UserError(f"task.self_critical.samples={samples}: {baseline} needs at least {least}")
        if temperature <= 0:
            raise UserError(f"task.self_critical.temperature={temperature}: expected more than 0")
        self.samples = samples
        self.baseline = baseline
        self.temperature = temperature


def self_critical(
    log_probs: Float[Tensor, "batch samples"],
    rewards: Float[Tensor, "batch samples"],
    baseline: Float[Tensor, "batch #samples"],
) -> Float[Tensor, " batch"]:
    """-mean (reward - baseline) log p(caption) over a picture's samples (Rennie et al. 2017, equation 7); only log p
    carries a gradient.
    """
    return -((rewards - baseline).detach() * log_probs).mean(dim=1)


class Replay:
    """Selects the same weights again, step by step: the places that sampled captions were written with.

    Args:
        weights: of each token; batch, samples, time, source.
    """

    def __init__(self, weights: Float[Tensor, "batch samples time source"]) -> None:
        self.steps = iter(weights.unbind(2))

    def __call__(self, alpha: Float[Tensor, "batch samples source"]) -> Float[Tensor, "batch samples source"]:
        return next(self.steps).to(alpha.dtype).view_as(alpha)
