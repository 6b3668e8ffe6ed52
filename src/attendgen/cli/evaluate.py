"""attendgen evaluate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attendgen.cli.options import Compile, Device, Precision, Trust, take_settings, with_decoding_options
from attendgen.runs.folder import require_run
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.files import exists
from attendgen.utils.tables import print_table

if TYPE_CHECKING:
    from attendgen.evaluation.options import EvaluationOptions
    from attendgen.evaluation.scores import Scores

SOME_FAILED = 3


@with_decoding_options
def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [KEY=VALUE ...]",
            help="Run directories, .ckpt files or names of bundled models; changes of their configs, such as "
            "decoding.beam_size=5 or data.root=DIR; attention=FILE.json compares a captioner's attention with boxes.",
        ),
    ],
    split: Annotated[str, typer.Option(help="train, val (or dev) or test.")] = "val",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the scores and outputs; default: the run directory.")
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Part of the files' names; default: made from the changed settings."),
    ] = None,
    save_attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Write attention, tokens and log-probabilities of the whole split."),
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
    device: Device = "auto",
    precision: Precision = "32",
    compiles: Compile = False,
    devices: Annotated[
        int, typer.Option(metavar="N", help="Number of GPUs, or of processes on the CPU, that share the split.")
    ] = 1,
    trust: Trust = None,
    decoding: Any = None,
) -> int:
    """Score trained models: print a table and write metrics_<split>.json, its settings and the outputs."""
    if dynamic_decay and dynamic_eval_lr is None:
        raise UserError("--dynamic-decay: needs --dynamic-eval-lr RATE")
    runs, overrides = split_arguments(arguments)
    take_settings(overrides, decoding)  # refuses a setting that is given twice
    overrides += [f"decoding.{name}={value}" for name, value in decoding.items()]
    from attendgen.evaluation.options import DynamicEvaluation, EvaluationOptions, take_boxes

    boxes, overrides = take_boxes(overrides)
    dynamic = None if dynamic_eval_lr is None else DynamicEvaluation(dynamic_eval_lr, dynamic_decay)
    options = EvaluationOptions(
        split,
        overrides,
        out,
        tag,
        tuple(text or ()),
        dynamic,
        save_attention,
        device,
        precision,
        devices,
        boxes,
        compiles,
    )
    return evaluate_one(runs[0], options) if len(runs) == 1 else evaluate_several(runs, options)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the runs and the overrides among arguments; a run's path may hold "=" if it exists.

    Raises:
        UserError: there is no run, or one does not exist.
    """
    overrides = [argument for argument in arguments if "=" in argument and not exists(argument)]
    runs = list(dict.fromkeys(argument for argument in arguments if argument not in overrides))
    if not runs:
        raise UserError(f"evaluate: no RUN among {format_some(arguments)}; see --help")
    for run in runs:  # before an evaluation that can take long
        require_run(run)
    return runs, overrides


def evaluate_one(run: str, options: "EvaluationOptions") -> int:
    """Score a run and print its scores."""
    from attendgen.evaluation.evaluate import evaluate_run
    from attendgen.runs.run import Run

    scores = evaluate_run(Run.find(run), options)
    if not scores:  # a further process of several devices
        return 0
    print_search(scores)
    print_table(["score", "value"], [[name, f"{value:.6g}"] for name, value in scores.items()])
    return 0


def evaluate_several(runs: list[str], options: "EvaluationOptions") -> int:
    """Score several runs and print a table of them; return 3 if one failed, with a line that says why."""
    from attendgen.evaluation.evaluate import evaluate_many

    done: dict[str, Scores] = {}
    for number, (run, scores) in enumerate(evaluate_many(runs, options), start=1):
        if isinstance(scores, Exception):
            reason = str(scores) if isinstance(scores, UserError) else f"{type(scores).__name__}: {scores}"
            reason = " ".join(reason.split())
            print(f"attendgen: {reason if run in reason else f'{run}: {reason}'}", file=sys.stderr)
        else:
            done[run] = scores
            print(f"{number} of {len(runs)}: {run}", file=sys.stderr)
            print_search(scores)
    if done:
        names = list(dict.fromkeys(name for scores in done.values() for name in scores))
        rows = [[run, *(f"{s[name]:.4g}" if name in s else "" for name in names)] for run, s in done.items()]
        print_table(["run", *names], rows)
    return 0 if len(done) == len(runs) else SOME_FAILED


def print_search(scores: "Scores") -> None:
    """Print by which search the outputs were decoded, if there are any."""
    if "search" in scores.settings:
        print(f"search: {scores.settings['search']}", file=sys.stderr)
