"""Arguments and options that several commands share."""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from attendgen.config.instantiate import get_first_line
from attendgen.decoding.config import DecodingConfig
from attendgen.utils.errors import UserError

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

# typer 0.27 writes an option in capitals whose metavar is its name in capitals, unless its name is given
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; auto is a GPU if there is one, else the CPU."
    ),
]
Precision = Annotated[
    str,
    typer.Option("--precision", metavar="PRECISION", help="32, or bf16, which is faster and rounds log-probabilities."),
]

Compile = Annotated[
    bool,
    typer.Option("--compile", help="On a GPU: record decoding steps as CUDA graphs and replay them, which is faster."),
]

Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Also write the attention page: one HTML file to explore all outputs in, which needs no network.",
    ),
]

Words = Annotated[
    str | None,
    typer.Option("--words", metavar="WORD,...", help="With --attention: draw only these words of the output."),
]
ALTERNATIVES = 5  # likeliest tokens per step on the attention page

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


def name_option(setting: str) -> str:
    """Return the command-line option of a setting."""
    return FLAGS.get(setting, f"--{setting.replace('_', '-')}")


def require_attention(attention: Path | None, words: str | None) -> None:
    """Check the options of a figure before anything is computed.

    Raises:
        UserError: the file's format is unknown, or words are given without a file.
    """
    if attention is not None:
        from attendgen.visualization.plotting import check_suffix

        check_suffix(attention)
    elif words is not None:
        raise UserError(f"--words {words}: needs --attention FILE")


SETTING = re.compile(r"decoding\.([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


def take_settings(arguments: Iterable[str], options: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the arguments of a command that are not `decoding.NAME=VALUE`, and the settings of these and of `options`.

    A value of null is one that the setting has been given, not one that it lacks; see `TrainedModel.clear_settings`.

    Raises:
        UserError: a value is not YAML, or a setting is given twice.
    """
    rest, settings = [], dict(options)
    for argument in arguments:
        found = SETTING.fullmatch(argument)
        if found is None:
            rest.append(argument)
            continue
        name, text = found.groups()
        if name in settings:
            raise UserError(f"decoding.{name}: given twice; leave one of them out")
        try:
            settings[name] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{argument}: {get_first_line(error)}") from error
    return rest, settings


def with_decoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `DecodingConfig` to a command, which receives those given as the argument `decoding`.

    The default of each option is the run's own setting. `take_settings` adds those that have no option.
    """
    options = [field for field in fields(DecodingConfig) if field.metadata["flag"]]

    @functools.wraps(command)
    def run(**arguments: Any) -> Any:
        given = {field.name: value for field in options if (value := arguments.pop(field.name)) is not None}
        return command(**arguments, decoding=given)

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "decoding"]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    for field in options:
        option = typer.Option(name_option(field.name), help=field.metadata["help"])
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
