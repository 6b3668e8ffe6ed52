"""Check the shapes and types of signatures at run time, each case of a function once."""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_type_hints

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

CONF = BeartypeConf(violation_type=TypeError)  # what Python itself raises for a wrong argument
PLAIN = frozenset((str, int, float, bool, type(None)))


def check_types(package: str) -> None:
    """Let all functions of a package check what they are given and what they return.

    jaxtyping checks every call, which takes half the time of a training on tiny data. Here a function is checked
    when it first meets arguments of some types and shapes.
    """
    checks = jaxtyping.jaxtyped

    def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
        return lambda part: (
            check_once(part, checks(typechecker=None))
            if inspect.isfunction(part)
            else checks(part, typechecker=typechecker)
        )

    jaxtyping.jaxtyped = jaxtyped  # the import hook adds this decorator
    jaxtyping.install_import_hook(package, "beartype.beartype")


def check_once(function: Callable[..., Any], decorate: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the function with its checks, which are made when it is first called."""
    passed: set[Any] = set()
    checked: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        case = (*map(describe, args), *kwargs, *map(describe, kwargs.values()))
        if case in passed:
            return function(*args, **kwargs)
        if not checked:
            resolve_names(function)
            checked.append(decorate(beartype(function, conf=CONF)))
        result = checked[0](*args, **kwargs)
        passed.add(case)
        return result

    return call


def resolve_names(function: Callable[..., Any]) -> None:
    """Replace names in quotes by what they stand for; those that only type checkers understand are not checked."""
    for name, annotation in function.__annotations__.items():
        try:
            hints = SimpleNamespace(__annotations__={name: annotation})
            function.__annotations__[name] = get_type_hints(hints, function.__globals__, include_extras=True)[name]
        except (NameError, TypeError):
            function.__annotations__[name] = Any


def describe(value: Any) -> Any:
    """Return what the annotation of an argument can ask of it: its type, of tensors their shape and dtype as well."""
    kind = type(value)
    if kind in PLAIN:
        return kind
    if kind is torch.Tensor or isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    if isinstance(value, tuple):
        return (kind, *map(describe, value))
    if isinstance(value, list):
        return (kind, len(value), *map(describe, value[:1]))
    return kind
