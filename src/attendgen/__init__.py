"""Train, compare and look inside attention-based text generators.

import attendgen
model = attendgen.load("outputs/toy_chat/2026-11-22_18-00-00")
model.generate("Tu vas bien ?")[0].text
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attendgen.inference import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # importing torch and Lightning takes seconds: only when asked for
    if name == "load":
        from attendgen.inference import load

        return load
    raise AttributeError(f"module 'attendgen' has no attribute {name!r}")
