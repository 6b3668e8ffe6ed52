"""attendgen import, ensemble, merge and rescale: runs that are made without training."""

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from attendgen.cli.options import Device, OutRun, OverrideArguments, Precision, RunArgument, Trust
from attendgen.utils.errors import UserError


def import_checkpoint(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="textgenerate: a model of Text-Generation; sgrvinod: a captioner of the tutorial."
        ),
    ],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Its checkpoint; for sgrvinod also its word map.")
    ],
    out: OutRun,
) -> None:
    """Make a run of another project's checkpoint."""
    from attendgen.postprocess.importing import import_run

    import_run(kind, files, out)
    print(f"run: {out}", file=sys.stderr)


def ensemble(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="Runs of one family and vocabulary.")],
    out: OutRun,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W,W,...", help="Exponents of the models' probabilities; default: the geometric mean."),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Fit the weights on this split, such as val.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "32",
    trust: Trust = None,
) -> None:
    """Combine trained models into one that generates from a weighted product of their probabilities."""
    given = _parse_weights(weights)
    if given and fit:
        raise UserError("--weights and --fit exclude each other; leave one out")
    from attendgen.postprocess.ensembling import make_ensemble

    _print_made(make_ensemble(runs, out, given, fit, device, precision), out)


def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="A run and its fine-tuned versions.")],
    out: OutRun,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Of the models, divided by their sum; default: equal.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Average the weights of several models."""
    from attendgen.postprocess import merging

    _print_made(merging.merge(runs, out, _parse_weights(weights)), out)


def rescale(
    run: RunArgument,
    out: OutRun,
    arguments: OverrideArguments = None,
    fit: Annotated[str, typer.Option(metavar="SPLIT", help="The held-out split.")] = "val",
    device: Device = "auto",
    precision: Precision = "32",
    trust: Trust = None,
) -> None:
    """Fit one scale per weight matrix on a held-out split."""
    from attendgen.postprocess import rescaling
    from attendgen.runs.run import Run

    found = Run.find(run)
    before, after = rescaling.rescale(found, found.override(arguments or []), out, fit, device, precision)
    bits = " -> ".join(f"{nll / math.log(2):.4f}" for nll in (before, after))
    print(f"{fit}: {bits} bits per token\nrun: {out}", file=sys.stderr)


def _parse_weights(text: str | None) -> list[float] | None:
    """Parse the option --weights.

    Raises:
        UserError: it does not hold numbers.
    """
    try:
        return [float(weight) for weight in text.split(",")] if text is not None else None
    except ValueError:
        raise UserError(f"--weights {text}: expected numbers with commas between, as 0.6,0.4") from None


def _print_made(weights: list[float], out: Path) -> None:
    print(f"weights: {','.join(f'{weight:.4f}' for weight in weights)}\nrun: {out}", file=sys.stderr)
