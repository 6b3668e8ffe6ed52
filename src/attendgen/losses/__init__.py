"""Losses and gradient estimators."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.losses.cross_entropy import coverage_loss as coverage_loss
    from attendgen.losses.cross_entropy import doubly_stochastic as doubly_stochastic
    from attendgen.losses.cross_entropy import masked_cross_entropy as masked_cross_entropy
    from attendgen.losses.score_function import Estimator as Estimator
    from attendgen.losses.score_function import LeaveOneOutEstimator as LeaveOneOutEstimator
    from attendgen.losses.score_function import MovingAverageBaseline as MovingAverageBaseline
    from attendgen.losses.score_function import Samples as Samples
    from attendgen.losses.score_function import SoftBaselineEstimator as SoftBaselineEstimator
    from attendgen.losses.score_function import StraightThroughGumbelEstimator as StraightThroughGumbelEstimator
    from attendgen.losses.score_function import reinforce as reinforce

__all__ = [
    "Estimator",
    "LeaveOneOutEstimator",
    "MovingAverageBaseline",
    "Samples",
    "SoftBaselineEstimator",
    "StraightThroughGumbelEstimator",
    "coverage_loss",
    "doubly_stochastic",
    "masked_cross_entropy",
    "reinforce",
]

_PUBLIC = {
    "Estimator": "score_function",
    "LeaveOneOutEstimator": "score_function",
    "MovingAverageBaseline": "score_function",
    "Samples": "score_function",
    "SoftBaselineEstimator": "score_function",
    "StraightThroughGumbelEstimator": "score_function",
    "coverage_loss": "cross_entropy",
    "doubly_stochastic": "cross_entropy",
    "masked_cross_entropy": "cross_entropy",
    "reinforce": "score_function",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
