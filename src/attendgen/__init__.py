"""Train, compare and look inside attention-based text generators.

import attendgen
model = attendgen.load("outputs/toy_chat/2026-11-22_18-00-00")
model.generate("Tu vas bien ?")[0].text
"""

import os
from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.evaluation.compare import compare as compare
    from attendgen.evaluation.evaluate import evaluate as evaluate
    from attendgen.inference.load import load as load
    from attendgen.runs.run import Run as Run

__all__ = ["Run", "__version__", "compare", "evaluate", "load"]

__version__ = "0.2.0"

# OpenMP's threads spin at barriers by default; if another process needs their core, small models then train several
# times slower. The policy is read when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "passive"

# importing torch takes seconds: only when it is needed
__getattr__, __dir__ = attach(
    __name__,
    {
        "Run": "runs.run",
        "compare": "evaluation.compare",
        "evaluate": "evaluation.evaluate",
        "load": "inference.load",
    },
)
