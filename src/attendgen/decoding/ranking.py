"""How a beam search compares hypotheses of different lengths."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

UNSEEN = 1e-9  # attention that a neglected source symbol counts as, lest its logarithm be infinite


@dataclass(frozen=True)
class Ranking:
    """s(Y, X) = log P(Y | X) / lp(Y) + cp(X, Y) (Wu et al. 2016, 7).

    Attributes:
        alpha: of the length penalty lp = ((5 + |Y|) / 6)^alpha; 0 ranks by log-probability.
        average: lp = |Y| instead.
        coverage: beta of the coverage penalty cp = beta sum_i log min(sum_t alpha_ti, 1) over the source's symbols.
    """

    alpha: float = 0.0
    average: bool = False
    coverage: float = 0.0

    def __post_init__(self) -> None:
        if self.average and self.alpha:
            raise ValueError(f"alpha {self.alpha} and average exclude each other; leave one out")
        if self.coverage < 0:
            raise ValueError(f"coverage {self.coverage} rewards neglect; use at least 0")

    def penalty(self, length: int) -> float:
        """lp of a hypothesis of `length` symbols, <eos> included."""
        return float(length) if self.average else ((5 + length) / 6) ** self.alpha

    def covered(
        self, attended: Float[Tensor, "*rows source"], mask: Bool[Tensor, "*#rows source"] | None
    ) -> Float[Tensor, "*rows"]:
        """cp of the attention summed over the steps so far; masked symbols do not count."""
        logs = attended.float().clamp(UNSEEN, 1.0).log()
        return self.coverage * (logs if mask is None else logs * mask).sum(dim=-1)

    def bound(self, log_probs: Float[Tensor, "*rows"], length: int, max_length: int) -> Float[Tensor, "*rows"]:
        """The most that a hypothesis of `length` symbols can still come to: log-probabilities and cp only fall to 0."""
        return log_probs / max(self.penalty(length), self.penalty(max_length))
