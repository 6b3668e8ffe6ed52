"""Train, compare and look inside attention-based text generators.

import attendgen
run = attendgen.train(["experiment=toy_chat", "epochs=20"])
attendgen.evaluate(run, beam_size=5)
attendgen.load(run).generate("Tu vas bien ?")[0].text

`__all__` is what stays as it is between versions; docs/reference/api.md describes it.
"""

import os
from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach
from attendgen.utils.openmp import choose_waiting

if TYPE_CHECKING:
    from attendgen.evaluation.bootstrap import Comparison as Comparison
    from attendgen.evaluation.compare import compare as compare
    from attendgen.evaluation.evaluate import evaluate as evaluate
    from attendgen.evaluation.scores import Scores as Scores
    from attendgen.hydra_app.python import train as train
    from attendgen.inference.load import load as load
    from attendgen.inference.report import report as report
    from attendgen.inference.result import Result as Result
    from attendgen.runs.listing import find_runs as find_runs
    from attendgen.runs.run import Run as Run
    from attendgen.utils.errors import UserError as UserError

__all__ = [
    "Comparison",
    "Result",
    "Run",
    "Scores",
    "UserError",
    "__version__",
    "compare",
    "evaluate",
    "find_runs",
    "load",
    "report",
    "train",
]

__version__ = "0.2.0"

choose_waiting(os.environ)

# importing torch takes seconds: only when it is needed
__getattr__, __dir__ = attach(
    __name__,
    {
        "Comparison": "evaluation.bootstrap",
        "Result": "inference.result",
        "Run": "runs.run",
        "Scores": "evaluation.scores",
        "UserError": "utils.errors",
        "compare": "evaluation.compare",
        "evaluate": "evaluation.evaluate",
        "find_runs": "runs.listing",
        "load": "inference.load",
        "report": "inference.report",
        "train": "hydra_app.python",
    },
)
