"""The commands of `attendgen`, such as train, evaluate and generate."""

import functools
import sys

import typer

from attendgen.cli.caption import caption
from attendgen.cli.combine import ensemble, import_checkpoint, merge, rescale
from attendgen.cli.compare import compare
from attendgen.cli.evaluate import evaluate
from attendgen.cli.generate import generate
from attendgen.cli.new import new
from attendgen.cli.runs import runs
from attendgen.cli.train import train
from attendgen.cli.trust import trust
from attendgen.cli.variadic import VariadicCommand
from attendgen.utils.exit_codes import run_command

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, compare and look inside attention-based text generators.",
)
app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(train)
app.command(cls=VariadicCommand)(evaluate)
app.command()(compare)
app.command()(generate)
app.command()(caption)
app.command("import")(import_checkpoint)
app.command()(ensemble)
app.command()(merge)
app.command()(rescale)
app.command()(new)
app.command()(trust)
app.command(cls=VariadicCommand)(runs)


def main() -> None:
    """Run a command; see `run_command` for the exit codes."""
    sys.exit(run_command(functools.partial(app, standalone_mode=False)))
