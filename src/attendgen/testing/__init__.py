"""Checks of one's own layers, models and estimators; each raises an AssertionError that says what differs."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.testing.attention import check_attention as check_attention
    from attendgen.testing.decoder import check_decoder as check_decoder
    from attendgen.testing.estimator import check_estimator as check_estimator
    from attendgen.testing.estimator import enumerate_paths as enumerate_paths
    from attendgen.testing.model import check_model as check_model

__all__ = ["check_attention", "check_decoder", "check_estimator", "check_model", "enumerate_paths"]

_PUBLIC = {
    "check_attention": "attention",
    "check_decoder": "decoder",
    "check_estimator": "estimator",
    "check_model": "model",
    "enumerate_paths": "estimator",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
