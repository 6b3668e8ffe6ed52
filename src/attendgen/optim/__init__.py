"""Optimizers and learning-rate schedules."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.optim.muon import MuonAdamW as MuonAdamW
    from attendgen.optim.schedules import Constant as Constant
    from attendgen.optim.schedules import WarmupCosine as WarmupCosine

__all__ = [
    "Constant",
    "MuonAdamW",
    "WarmupCosine",
]

_PUBLIC = {
    "Constant": "schedules",
    "MuonAdamW": "muon",
    "WarmupCosine": "schedules",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
