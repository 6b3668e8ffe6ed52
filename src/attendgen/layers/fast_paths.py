"""When a fast path still computes what it replaces: not after a subclass, a hook or another module changed that."""

from collections.abc import Iterable
from typing import Any

from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def stands_for(layer: Any, fast: str, *plain: str) -> bool:
    """Return whether a fast method, or a declaration, holds for the plain methods of a layer.

    It does not if a subclass or the instance defines one of these and leaves the fast one as it was.
    """
    for names in (vars(layer), *map(vars, type(layer).__mro__)):
        if fast in names:
            return True
        if not names.keys().isdisjoint(plain):
            return False
    return False


def is_called_plainly(layer: Any) -> bool:
    """Return whether calling a module is calling its class's `forward`, and no hook sees or changes anything."""
    own = vars(layer)
    return "forward" not in own and not any(own.get(name) for name in HOOKS)


def is_unchanged(module: Any, kind: type[nn.Module]) -> bool:
    """Return whether calling a module computes what the calls of a class compute from the same parameters."""
    same = isinstance(module, kind) and type(module).forward is kind.forward and type(module).__call__ is kind.__call__
    return same and is_called_plainly(module)


def are_products(layers: Iterable[Any], bias: bool = False) -> bool:
    """Return whether layers only multiply with their `weight`, and add their `bias` if there is to be one.

    A parametrized weight, such as one that is normalized, is a weight. None is left out.
    """
    given = [layer for layer in layers if layer is not None]
    return all(is_unchanged(layer, nn.Linear) and (layer.bias is not None) == bias for layer in given)
