"""attendgen caption."""

import collections
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attendgen.cli.options import Device, Precision, RunArgument, Trust, take_settings, with_decoding_options
from attendgen.utils.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attendgen.inference.image_captioner import ImageCaptioner

SHOWN = 1000  # pixels of the longer side of an image in a figure, at most


@with_decoding_options
def caption(
    run: RunArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Images of any size and mode; decoding.NAME=VALUE changes any setting of decoding."
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
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write one HTML page with all captions and attention.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "32",
    trust: Trust = None,
    decoding: Any = None,
) -> None:
    """Caption images, and show the attention of each word."""
    from attendgen.data.captions.images import open_image
    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.load import load
    from attendgen.runs.run import Run
    from attendgen.utils.precision import set_matmul_precision
    from attendgen.visualization.html_report import write_report

    names, decoding = take_settings(map(str, images), decoding)
    images = [Path(name) for name in names]
    if not images:
        raise UserError("caption: no image; give IMAGE")
    for path in images:  # all must be readable before anything is written
        open_image(path)
    found = Run.find(run)
    if data is not None:
        found.config.data.root = str(data)
    model = load(found, device=device, precision=precision)
    if not isinstance(model, ImageCaptioner):
        raise UserError(f"{run}: not a captioner; use `attendgen generate {run} TEXT`")
    set_matmul_precision(model.device)
    entries = write_captions(model, images, out, decoding)
    if html is not None:
        write_report(html, f"Captions of {model.run.checkpoint}", entries)
    else:
        collections.deque(entries, maxlen=0)


def write_captions(
    model: "ImageCaptioner", images: list[Path], out: Path, decoding: dict[str, Any]
) -> Iterator[tuple[str, str, "Figure"]]:
    """Caption images in batches, and print each one's captions and save its figure; yield what an HTML page needs."""
    from attendgen.data.captions.images import open_image
    from attendgen.visualization import plotting

    shown: collections.deque[Any] = collections.deque()  # small copies of a batch's images

    def open_images() -> Iterator[Any]:
        for path in images:
            image = open_image(path)
            small = image.copy()
            small.thumbnail((SHOWN, SHOWN))
            shown.append(small)
            yield image

    names = make_attention_names(images)
    for path, name, results in zip(images, names, model.caption_all(open_images(), **decoding), strict=True):
        best = results[0]
        figure = plotting.plot_caption(shown.popleft(), best.tokens, best.attention, best.regions)
        plotting.save(figure, out / name)
        for result in results:
            text = result.text if len(results) == 1 else f"{result.score:.3f}\t{result.text}"
            print(f"{path}: {text}" if len(images) > 1 else text)
        print(f"attention: {out / name}", file=sys.stderr)
        yield best.text, f"{path.name}, log-probability {best.log_probs.sum():.2f}", figure


def make_attention_names(images: list[Path]) -> list[str]:
    """Return a PNG name per image, with a number where two images have the same name."""
    names: list[str] = []
    for path in images:
        copies = sum(earlier.stem == path.stem for earlier in images[: len(names)])
        names.append(f"{path.stem}_{copies + 1}_attention.png" if copies else f"{path.stem}_attention.png")
    return names
