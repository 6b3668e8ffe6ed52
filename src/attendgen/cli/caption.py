"""attendgen caption."""

import collections
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from attendgen.cli.figures import save_panels
from attendgen.cli.options import (
    ALTERNATIVES,
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

SHOWN = 1000  # pixels of the longer side of an image in a figure, at most


@with_decoding_options
def caption(
    run: RunArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN...] IMAGE...",
            help="Images of any size and mode, after further runs if --html shows several side by side; "
            "decoding.NAME=VALUE changes any setting of decoding.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the training images, for --retrieval-captions; default: data.root of the run's config.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a PNG per image.")] = Path(),
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the first caption's attention as one figure (png, pdf, svg)."),
    ] = None,
    words: Words = None,
    html: Html = None,
    device: Device = "auto",
    precision: Precision = "32",
    trust: Trust = None,
    decoding: Any = None,
) -> None:
    """Caption images, and show the attention of each word."""
    from attendgen.data.captions.images import open_image
    from attendgen.inference.report import report

    names, decoding = take_settings(images, decoding)
    runs, paths = split_runs(run, names)
    require_attention(attention, words)
    require_counts(runs, paths, attention, html)
    for path in paths:  # all must be readable before anything is written
        open_image(path)
    alternatives = ALTERNATIVES if html is not None else 0
    figure = None if attention is None else Figure(attention, words)
    models: dict[str, list[list[Result]]] = {}
    for name in runs:
        model = load_captioner(name, data, device, precision)
        label = make_label(model.run.name, models)
        if len(runs) == 1:
            models[label] = write_captions(model, paths, out, alternatives, decoding, figure)
        else:
            models[label] = print_captions(label, model, paths, alternatives, decoding)
    if html is not None:
        report(models, html, images=paths, title=f"Attention of {' and '.join(models)}")
        print(f"page: {html}", file=sys.stderr)


class Figure(NamedTuple):
    """The figure of a single image: its file, and the words that it shows."""

    path: Path
    words: str | None


def require_counts(runs: list[str], images: list[Path], attention: Path | None, html: Path | None) -> None:
    """Check that there are images, and that the options suit the numbers of runs and images.

    Raises:
        UserError: they do not.
    """
    if not images:
        raise UserError("caption: no image; give IMAGE")
    if len(runs) > 1 and html is None:
        raise UserError(f"caption: {len(runs)} runs are shown side by side on a page; give --html FILE, or one run")
    if attention is not None and len(runs) * len(images) > 1:
        raise UserError(f"--attention {attention}: a figure of one image and one run; --out and --html show several")


def split_runs(run: str, names: list[str]) -> tuple[list[str], list[Path]]:
    """Return all runs and the images: further runs stand before the images."""
    count = next((number for number, name in enumerate(names) if not names_run(name)), len(names))
    return [run, *names[:count]], [Path(name) for name in names[count:]]


def load_captioner(run: str, data: Path | None, device: str, precision: str) -> "ImageCaptioner":
    """Load a captioner.

    Args:
        data: folder of its training images; that of the run's config unless given.

    Raises:
        UserError: it is of another family, or there is no such device or precision.
    """
    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.load import load
    from attendgen.runs.run import Run
    from attendgen.utils.precision import set_matmul_precision

    found = Run.find(run)
    if data is not None:
        found.config.data.root = str(data)
    model = load(found, device=device, precision=precision)
    if not isinstance(model, ImageCaptioner):
        raise UserError(f"{run}: not a captioner; use `attendgen generate {run} TEXT`")
    set_matmul_precision(model.device)
    return model


def make_label(name: str, others: dict[str, Any]) -> str:
    """Return a name that differs from those of other runs."""
    copies = sum(other.partition(" (")[0] == name for other in others)
    return f"{name} ({copies + 1})" if copies else name


def write_captions(
    model: "ImageCaptioner",
    images: list[Path],
    out: Path,
    alternatives: int,
    decoding: dict[str, Any],
    figure: Figure | None = None,
) -> list[list["Result"]]:
    """Caption images in batches; print each one's captions and save its panels in a folder.

    Args:
        figure: also saved, of a single image.
    """
    from attendgen.data.captions.images import open_image

    shown: collections.deque[Any] = collections.deque()  # small copies of a batch's images

    def open_images() -> Iterator[Any]:
        for path in images:
            image = open_image(path)
            small = image.copy()
            small.thumbnail((SHOWN, SHOWN))
            shown.append(small)
            yield image

    names, kept = make_attention_names(images), []
    captions = model.caption_all(open_images(), alternatives=alternatives, **decoding)
    for path, name, results in zip(images, names, captions, strict=True):
        image = shown.popleft()
        print_results(results, f"{path}: " if len(images) > 1 else "")
        save_panels(results[0], image, out / name)
        if figure is not None:
            save_panels(results[0], image, figure.path, figure.words)
        if alternatives:  # for the page; the captions of many images need not be kept otherwise
            kept.append(results)
    return kept


def print_captions(
    label: str, model: "ImageCaptioner", images: list[Path], alternatives: int, decoding: dict[str, Any]
) -> list[list["Result"]]:
    """Caption images by one of several models, and print its captions."""
    found = list(model.caption_all(images, alternatives=alternatives, **decoding))
    for path, results in zip(images, found, strict=True):
        print_results(results, f"{label}: {path}: " if len(images) > 1 else f"{label}: ")
    return found


def print_results(results: list["Result"], prefix: str) -> None:
    """Print the captions of an image, with their scores if there are several."""
    for result in results:
        print(prefix + (result.text if len(results) == 1 else f"{result.score:.3f}\t{result.text}"))


def make_attention_names(images: list[Path]) -> list[str]:
    """Return a PNG name per image, with a number where two images have the same name."""
    names: list[str] = []
    for path in images:
        copies = sum(earlier.stem == path.stem for earlier in images[: len(names)])
        names.append(f"{path.stem}_{copies + 1}_attention.png" if copies else f"{path.stem}_attention.png")
    return names
