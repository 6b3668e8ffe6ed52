"""The commands of `attendgen`, such as train, evaluate and generate."""

import codecs
import functools
import io
import sys
from typing import Annotated

import typer

from attendgen.cli.caption import caption
from attendgen.cli.combine import ensemble, import_checkpoint, merge, rescale
from attendgen.cli.command import Command
from attendgen.cli.compare import compare
from attendgen.cli.evaluate import evaluate
from attendgen.cli.generate import generate
from attendgen.cli.new import new
from attendgen.cli.runs import runs
from attendgen.cli.train import train
from attendgen.cli.trust import trust
from attendgen.cli.variadic import VariadicCommand
from attendgen.utils.exit_codes import run_command
from attendgen.utils.ranks import get_rank

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, compare and look inside attention-based text generators.",
)


def print_version(asked: bool) -> bool:
    """Print the version and exit if it is asked for."""
    if asked:
        from attendgen import __version__

        print(f"attendgen {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def set_up(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(train)
app.command(cls=VariadicCommand)(evaluate)
app.command(cls=Command)(compare)
app.command(cls=Command)(generate)
app.command(cls=Command)(caption)
app.command("import", cls=Command)(import_checkpoint)
app.command(cls=Command)(ensemble)
app.command(cls=Command)(merge)
app.command(cls=Command)(rescale)
app.command(cls=Command)(new)
app.command(cls=Command)(trust)
app.command(cls=VariadicCommand)(runs)


def print_any_text() -> None:
    """Let standard output take what it has no characters for: letters in an old encoding, bytes in names of files."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def main() -> None:
    """Run a command, or print the help if none is given; see `run_command` for the exit codes."""
    print_any_text()
    arguments = sys.argv[1:] or ["--help"]
    sys.exit(run_command(functools.partial(app, arguments, standalone_mode=False), rank=get_rank()))
