"""Arguments and options that several commands share."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from attendgen.decoding.config import DecodingConfig

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, a .ckpt file, or the name of a bundled model.")
]
OverrideArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE ...]",
        help="Changes of the run's config, such as decoding.beam_size=5 or data.root=DIR.",
    ),
]
OutRun = Annotated[Path, typer.Option(metavar="RUN", help="The run directory to write.")]

FLAGS = {"beam_size": "--beam"}


def _trust_packages(packages: list[str] | None) -> list[str] | None:
    from attendgen.config.trust import trust

    trust(packages or [])
    return packages


Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        callback=_trust_packages,
        help="Let the run name classes of this Python package, whose code then runs; can be given several times.",
    ),
]


def with_decoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `DecodingConfig` to a command, which receives those given as the argument `decoding`.

    The default of each option is the run's own setting.
    """
    names = [field.name for field in fields(DecodingConfig)]

    @functools.wraps(command)
    def run(**arguments: Any) -> Any:
        given = {name: value for name in names if (value := arguments.pop(name)) is not None}
        return command(**arguments, decoding=given)

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "decoding"]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    for field in fields(DecodingConfig):
        flag = FLAGS.get(field.name, f"--{field.name.replace('_', '-')}")
        option = typer.Option(flag, help=field.metadata["help"])
        kind: Any = Annotated[_get_type(field.type) | None, option]
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, keyword, default=None, annotation=kind))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # its signature is another
    return run


def _get_type(annotation: Any) -> Any:
    """Return T of `T | None`."""
    if isinstance(annotation, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
