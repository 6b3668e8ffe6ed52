"""Scores by which beam search compares hypotheses of different lengths."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

MIN_ATTENTION = 1e-9  # of a source token that got none: its logarithm stays finite


@dataclass(frozen=True)
class BeamScorer:
    """s(Y, X) = log P(Y | X) / lp(Y) + cp(X, Y) (Wu et al. 2016, section 7).

    Attributes:
        exponent: alpha of the length penalty `lp = ((5 + length) / 6)^alpha`; 0 scores by log-probability.
        kind: "gnmt", or "avg" for `lp = length`.
        coverage: beta of the coverage penalty `cp = beta sum_i log min(sum_t alpha_ti, 1)` over source tokens i.
    """

    exponent: float = 0.0
    kind: str = "gnmt"
    coverage: float = 0.0

    def length_penalty(self, length: int) -> float:
        """Return lp of a hypothesis of `length` tokens, <eos> included."""
        return float(length) if self.kind == "avg" else ((5 + length) / 6) ** self.exponent

    def coverage_penalty(
        self, attended: Float[Tensor, "*rows source"], mask: Bool[Tensor, "*#rows source"] | None
    ) -> Float[Tensor, "*rows"]:
        """Return cp, given the attention summed over the steps so far; masked tokens do not count."""
        logs = attended.float().clamp(MIN_ATTENTION, 1.0).log()
        return self.coverage * (logs if mask is None else logs * mask).sum(dim=-1)

    def upper_bound(self, log_probs: Float[Tensor, "*rows"], length: int, max_length: int) -> Float[Tensor, "*rows"]:
        """Return the best score that hypotheses of `length` tokens can still reach: log P and cp only decrease."""
        return log_probs / max(self.length_penalty(length), self.length_penalty(max_length))
