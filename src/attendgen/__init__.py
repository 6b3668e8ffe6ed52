"""Train, compare and look inside attention-based text generators.

import attendgen
model = attendgen.load("outputs/toy_chat/2026-11-22_18-00-00")
model.generate("Tu vas bien ?")[0].text
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attendgen.inference import load as load

__all__ = ["load"]

# OpenMP's threads spin at barriers by default; where another process wants their core, small models then train several
# times slower. The policy is read when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "passive"


def __getattr__(name: str) -> Any:
    # importing torch and Lightning takes seconds: only when asked for
    if name == "load":
        from attendgen.inference import load

        return load
    raise AttributeError(f"module 'attendgen' has no attribute {name!r}")
