"""attendgen compare."""

from pathlib import Path
from typing import Annotated

import typer

from attendgen.cli.options import Trust
from attendgen.utils.files import write_json
from attendgen.utils.tables import print_table

System = Annotated[str, typer.Argument(metavar="RUN", help="An evaluated run, or a folder of one setting's seeds.")]


def compare(
    first: System,
    second: System,
    split: Annotated[str, typer.Option(help="train, val (or dev) or test.")] = "val",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="bleu, chrf, ter, exact_match, cider, rouge_l or bleu1 to bleu4; default: the first run's own.",
        ),
    ] = None,
    tag: Annotated[str, typer.Option(metavar="NAME", help="Tag of the evaluations, as beam5; default: none.")] = "",
    second_tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tag of the second run's evaluation, if it is another.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Number of samples of the inputs.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the numbers as JSON.")] = None,
    trust: Trust = None,
) -> None:
    """Test whether two evaluated runs differ: paired bootstrap over their outputs (Koehn 2004)."""
    from attendgen.evaluation.compare import compare as compare_runs

    tags = (tag, tag if second_tag is None else second_tag)
    found = compare_runs(first, second, split, metric, tags=tags, samples=samples, seed=seed)
    rows = [
        [first, f"{found.first:.4g}"],
        [second, f"{found.second:.4g}"],
        ["difference", f"{found.difference:+.4g}"],
        ["95 % interval", f"{found.low:+.4g} to {found.high:+.4g}"],
        ["p-value", f"{found.p_value:.4f}"],
        ["share of samples in which the first is higher", f"{found.wins:.3f}"],
    ]
    print_table([f"{found.metric}, {found.inputs} inputs, {found.samples} samples", "value"], rows)
    if json is not None:
        write_json(json, found.to_dict())
