"""attendgen caption."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attendgen.cli.caption_files import Figures, FileOptions, print_results
from attendgen.cli.options import (
    ALTERNATIVES,
    Compile,
    Device,
    Html,
    Precision,
    RunArgument,
    Trust,
    Words,
    require_attention,
    take_settings,
    with_decoding_options,
)
from attendgen.runs.folder import names_run
from attendgen.utils.errors import UserError

if TYPE_CHECKING:
    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.result import Result
MODEL_SETTING = re.compile(r"model\.[\w.]+=.*", re.DOTALL)


@with_decoding_options
def caption(
    run: RunArgument,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...] IMAGE...",
            help="Images of any size and mode or folders of them, after further runs if --html shows several; "
            "decoding.NAME=VALUE changes any setting of decoding, model.inference_attention=argmax how it attends.",
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="LIST",
            help="A file with one image per line, or - for standard input, or COCO's JSON; names in it belong to the "
            "folder given as IMAGE, if there is one.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write lines of an image, a tab and its caption into this file."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the images that --output has.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the captions in the COCO results format.")
    ] = None,
    no_attention: Annotated[
        bool, typer.Option("--no-attention", help="Write captions alone, which is the default without --out or --html.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the training images, for --retrieval-captions; default: data.root of the run's config.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a PNG per image that shows the attention.")
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the first caption's attention as one figure (png, pdf, svg)."),
    ] = None,
    words: Words = None,
    html: Html = None,
    device: Device = "auto",
    precision: Precision = "32",
    compiles: Compile = False,
    trust: Trust = None,
    decoding: Any = None,
) -> int:
    """Caption images, and show the attention of each word."""
    from attendgen.data.captions.images import open_image
    from attendgen.inference.report import report

    names, decoding = take_settings(images or [], decoding)
    changes = [name for name in names if MODEL_SETTING.fullmatch(name)]
    runs, paths = split_runs(run, [name for name in names if name not in changes])
    require_attention(attention, words)
    files = FileOptions(input_file, output, resume, json_file, no_attention)
    files.require_valid(paths, {"--out": out, "--html": html, "--attention": attention})
    require_counts(runs, paths, attention, html)
    if html is None:
        captioner = load_captioner(run, data, device, precision, compiles, changes)
        return files.caption(captioner, paths, Figures(out, attention, words), decoding)
    for path in paths:  # all must be readable before anything is written
        open_image(path)
    models: dict[str, list[list[Result]]] = {}
    for name in runs:
        model = load_captioner(name, data, device, precision, compiles, changes)
        label = make_label(model.run.name, models)
        found = model.caption_all(paths, alternatives=ALTERNATIVES, **decoding)
        models[label] = print_captions(found, paths, f"{label}: " if len(runs) > 1 else "")
    report(models, html, images=paths, title=f"Attention of {' and '.join(models)}")
    print(f"page: {html}", file=sys.stderr)
    figures = Figures(out if len(runs) == 1 else None, attention, words)
    for path, results in zip(paths, next(iter(models.values())), strict=True) if figures.wanted else ():
        figures.draw(path, figures.keep(open_image(path)), results[0])
    return 0


def require_counts(runs: list[str], images: list[Path], attention: Path | None, html: Path | None) -> None:
    """Check that the options suit the numbers of runs and images.

    Raises:
        UserError: they do not.
    """
    if len(runs) > 1 and html is None:
        raise UserError(f"caption: {len(runs)} runs are shown side by side on a page; give --html FILE, or one run")
    if attention is not None and len(runs) * len(images) > 1:
        raise UserError(f"--attention {attention}: a figure of one image and one run; --out and --html show several")


def split_runs(run: str, names: list[str]) -> tuple[list[str], list[Path]]:
    """Return all runs and the images: further runs stand before the images."""
    count = next((number for number, name in enumerate(names) if not names_run(name)), len(names))
    return [run, *names[:count]], [Path(name) for name in names[count:]]


def load_captioner(
    run: str, data: Path | None, device: str, precision: str, compiles: bool = False, changes: Sequence[str] = ()
) -> "ImageCaptioner":
    """Load a captioner.

    Args:
        data: folder of its training images; that of the run's config unless given.
        compiles: replay decoding steps as CUDA graphs.
        changes: of the run's config, such as `model.inference_attention=argmax`.

    Raises:
        UserError: it is of another family, a change is wrong, there is no such device or precision, or decoding is
            compiled without a GPU.
    """
    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.load import load
    from attendgen.runs.run import Run
    from attendgen.utils.precision import set_matmul_precision

    found = Run.find(run)
    found.config = found.override(list(changes))
    if data is not None:
        found.config.data.root = str(data)
    model = load(found, device=device, precision=precision, compile=compiles)
    if not isinstance(model, ImageCaptioner):
        raise UserError(f"{run}: not a captioner; use `attendgen generate {run} TEXT`")
    set_matmul_precision(model.device)
    return model


def make_label(name: str, others: dict[str, Any]) -> str:
    """Return a name that differs from those of other runs."""
    copies = sum(other.partition(" (")[0] == name for other in others)
    return f"{name} ({copies + 1})" if copies else name


def print_captions(found: Iterable[list["Result"]], images: list[Path], prefix: str) -> list[list["Result"]]:
    """Print the captions of images as they are made, and return them."""
    kept = []
    for path, results in zip(images, found, strict=True):
        print_results(results, f"{prefix}{path}: " if len(images) > 1 else prefix)
        kept.append(results)
    return kept
