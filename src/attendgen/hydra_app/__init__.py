"""The Hydra application behind `attendgen train`."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.hydra_app.callbacks import RunFolder as RunFolder
    from attendgen.hydra_app.callbacks import SweepFolder as SweepFolder

__all__ = [
    "RunFolder",
    "SweepFolder",
]

_PUBLIC = {
    "RunFolder": "callbacks",
    "SweepFolder": "callbacks",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
