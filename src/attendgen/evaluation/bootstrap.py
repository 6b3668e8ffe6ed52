"""The paired bootstrap: whether the difference of two systems' scores is more than chance (Koehn 2004)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from attendgen.metrics.statistics import Statistics
from attendgen.utils.errors import UserError

ROUNDING = 1e-12  # differences below it are none


@dataclass(frozen=True)
class Comparison:
    """Two systems' scores on the same inputs.

    Attributes:
        first, second: the scores; means over seeds if there are several.
        difference: first minus second.
        low, high: the 95 % confidence interval of the difference.
        p_value: of a difference at least as large if there is none in truth (two-sided).
        wins: the share of samples in which the first has the higher score.
        inputs: how many are compared.
        seeds: how many runs each system has.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: float
    samples: int
    inputs: int
    seeds: tuple[int, int] = (1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers by name."""
        return asdict(self)


def draw_indices(inputs: int, samples: int, seed: int) -> Int[np.ndarray, "samples inputs"]:
    """Draw samples of as many inputs as there are, with replacement."""
    return np.random.default_rng(seed).integers(inputs, size=(samples, inputs))


def compare_systems(
    metric: str, first: Sequence[Statistics], second: Sequence[Statistics], samples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two systems, each with the outputs of one seed or more, by the same samples of inputs.

    The interval holds the middle 95 % of the samples' differences d*. With the observed difference d, the p-value is
    (1 + #{|d* - d| >= |d|}) / (1 + samples): the samples are shifted so that there is no difference. Equal outputs
    have p = 1. The samples vary the inputs, not the seeds of a training.

    Raises:
        UserError: the number of samples or the seed is out of range.
    """
    if samples < 1:
        raise UserError(f"--samples {samples}: expected a number from 1")
    if seed < 0:
        raise UserError(f"--seed {seed}: expected a number from 0")
    inputs = len(first[0].values)
    whole = np.arange(inputs)[None]
    (score,), (other,) = _mean_scores(first, whole), _mean_scores(second, whole)
    indices = draw_indices(inputs, samples, seed)
    differences = _mean_scores(first, indices) - _mean_scores(second, indices)
    difference = float(score - other)
    extreme = np.abs(differences - difference) >= abs(difference) - ROUNDING
    low, high = np.quantile(differences, [0.025, 0.975])
    return Comparison(
        metric=metric,
        first=float(score),
        second=float(other),
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=(1 + int(extreme.sum())) / (1 + samples),
        wins=float((differences > ROUNDING).mean()),
        samples=samples,
        inputs=inputs,
        seeds=(len(first), len(second)),
    )


def _mean_scores(
    systems: Sequence[Statistics], indices: Int[np.ndarray, "samples inputs"]
) -> Float[np.ndarray, " samples"]:
    """Return the mean score over a system's seeds for each sample of inputs."""
    scores = [[system.score(system.values[chosen].sum(axis=0)) for chosen in indices] for system in systems]
    return np.array(scores, dtype=np.float64).mean(axis=0)
