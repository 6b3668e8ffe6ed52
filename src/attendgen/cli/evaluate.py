"""attendgen evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from attendgen.cli.options import OverrideArguments, RunArgument, Trust
from attendgen.utils.errors import UserError
from attendgen.utils.tables import print_table


def evaluate(
    run: RunArgument,
    arguments: OverrideArguments = None,
    split: Annotated[str, typer.Option(help="train, val (or dev) or test.")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the scores and outputs; default: the run directory.")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="Score a language model on text files instead of a split.")
    ] = None,
    dynamic_eval_lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Score a language model by dynamic evaluation, too, at this learning rate."),
    ] = None,
    dynamic_decay: Annotated[
        float, typer.Option(metavar="SHARE", help="Decay of dynamic evaluation towards the trained weights per step.")
    ] = 0.0,
    trust: Trust = None,
) -> None:
    """Score a trained model: print a table and write metrics_<split>.json and the outputs."""
    if dynamic_decay and dynamic_eval_lr is None:
        raise UserError("--dynamic-decay: needs --dynamic-eval-lr RATE")
    texts = list(text or [])
    overrides = []
    for argument in arguments or []:
        if text and "=" not in argument:
            texts.append(Path(argument))  # --text A B C
        else:
            overrides.append(argument)

    from attendgen.evaluation.evaluate import DynamicEvaluation
    from attendgen.evaluation.evaluate import evaluate as score
    from attendgen.runs.run import Run

    found = Run.find(run)
    dynamic = None if dynamic_eval_lr is None else DynamicEvaluation(dynamic_eval_lr, dynamic_decay)
    scores = score(found, found.override(overrides), split, out, texts, dynamic)
    print_table(["score", "value"], [[name, f"{value:.6g}"] for name, value in scores.items()])
