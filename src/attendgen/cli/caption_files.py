"""Captions of any number of images: read as a stream, captioned in batches, broken ones named at the end."""

import contextlib
import itertools
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from attendgen.cli.image_lists import ImageFile, find_images
from attendgen.cli.notes import report_search
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.exit_codes import PARTLY
from attendgen.utils.files import is_folder, replacing
from attendgen.utils.lines import LineWriter
from attendgen.utils.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from attendgen.inference.image_captioner import ImageCaptioner
    from attendgen.inference.result import Result

SHOWN = 1000  # pixels of the longer side of an image in a figure, at most


class Outputs(NamedTuple):
    """Where captions are written: lines of a path, a tab and a caption; JSON in the COCO results format."""

    lines: LineWriter | None
    entries: "JsonList | None"

    @property
    def has_files(self) -> bool:
        """Whether captions are written into files."""
        return self.lines is not None or self.entries is not None

    @property
    def done(self) -> int:
        """The number of images that an earlier command has captioned."""
        return self.lines.done if self.lines is not None else 0

    def write(self, image: ImageFile, results: list["Result"], prefixed: bool) -> None:
        """Write the captions of an image; one that is broken has none. Without files, print them.

        Args:
            prefixed: print the image's path before its caption.
        """
        if self.lines is not None:
            self.lines.write([f"{image.path}\t{results[0].text if results else ''}"])
        if self.entries is not None and results:
            self.entries.add({"image_id": image.image_id, "caption": results[0].text})
        if not self.has_files:
            print_results(results, f"{image.path}: " if prefixed else "")


def print_results(results: list["Result"], prefix: str) -> None:
    """Print the captions of an image, with their scores if there are several."""
    for result in results:
        text = result.text if len(results) == 1 else f"{result.score:.3f}\t{result.text}"
        print(prefix + text, flush=True)


class JsonList:
    """A JSON list that is written entry by entry."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.count = 0

    def add(self, entry: dict[str, Any]) -> None:
        """Write an entry."""
        self.file.write(f"{',' if self.count else '['}\n{json.dumps(entry, ensure_ascii=False)}")
        self.count += 1

    def close(self) -> None:
        """Write the end of the list."""
        self.file.write("\n]\n" if self.count else "[]\n")


class Figures:
    """PNG files that show the attention of captions.

    Args:
        folder: where they are written; None for none.
        single: a file of the first image's figure alone.
        words: those that `single` shows, see `save_panels`.
    """

    def __init__(self, folder: Path | None, single: Path | None = None, words: str | None = None) -> None:
        self.folder = folder
        self.single = single
        self.words = words
        self.used: set[str] = set()

    @property
    def wanted(self) -> bool:
        """Whether an image is to be drawn."""
        return self.folder is not None or self.single is not None

    def keep(self, image: "Image") -> "Image | None":
        """Return a small copy of an image if it is drawn later."""
        if not self.wanted:
            return None
        small = image.copy()
        small.thumbnail((SHOWN, SHOWN))
        return small

    def choose_name(self, stem: str) -> str:
        """Return a name that no other figure has: that of the image, with a number if another image has it."""
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self.used)
        self.used.add(name)
        return name

    def draw(self, path: Path, small: "Image | None", result: "Result") -> None:
        """Draw the attention of a caption, unless there is no copy of the image."""
        from attendgen.cli.figures import save_panels

        if small is None:
            return
        if self.folder is not None:
            save_panels(result, small, self.folder / f"{self.choose_name(path.stem)}_attention.png")
        if self.single is not None:
            save_panels(result, small, self.single, self.words)
            self.single = None


def caption_files(
    model: "ImageCaptioner",
    images: Iterable[ImageFile],
    outputs: Outputs,
    figures: Figures,
    decoding: dict[str, Any],
    prefixed: bool = True,
) -> int:
    """Caption images in batches; memory does not grow with their number. Captions without a file are printed.

    Args:
        prefixed: print the image's path before its caption.

    Returns:
        The exit code: 3 if some images are broken; they are named on standard error.

    Raises:
        UserError: all images are broken, or an option is wrong.
    """
    broken: list[UserError] = []
    count = 0
    with Progress("captions", "images", done=outputs.done) as progress:
        for image, small, results in caption_stream(model, images, decoding, broken, figures):
            outputs.write(image, results, prefixed)
            if results:
                figures.draw(image.path, small, results[0])
            count += 1
            progress.add(1)
    if broken and len(broken) == count:
        raise broken[0] if count == 1 else UserError(f"no image can be read: {format_some(broken)}")
    if broken:
        sys.stdout.flush()
        print(f"attendgen: {len(broken)} of {count} images cannot be read: {format_some(broken)}", file=sys.stderr)
    return PARTLY if broken else 0


def caption_stream(
    model: "ImageCaptioner",
    images: Iterable[ImageFile],
    decoding: dict[str, Any],
    broken: list[UserError],
    figures: Figures,
) -> Iterator[tuple[ImageFile, "Image | None", list["Result"]]]:
    """Yield each image with its captions, none for one that is broken, whose error is put into `broken`."""
    from attendgen.data.captions.images import open_image
    from attendgen.data.captions.precomputed import is_feature_file, read_features

    waiting: deque[tuple[ImageFile, Image | None, bool]] = deque()

    def open_images() -> Iterator[Any]:
        for image in images:
            opened: Any
            has_features = is_feature_file(image.path)
            try:
                if not has_features:
                    model.require_images(image.path)
                opened = read_features(image.path) if has_features else open_image(image.path)
            except UserError as error:
                broken.append(error)
                waiting.append((image, None, False))
                continue
            waiting.append((image, None if has_features else figures.keep(opened), True))
            yield opened

    def take_broken() -> Iterator[tuple[ImageFile, "Image | None", list["Result"]]]:
        while waiting and not waiting[0][2]:
            yield (*waiting.popleft()[:2], [])

    for results in model.caption_all(open_images(), **decoding):
        yield from take_broken()
        yield (*waiting.popleft()[:2], results)
    yield from take_broken()


class FileOptions(NamedTuple):
    """The options of `attendgen caption` that concern files of many images."""

    source: str | None
    output: Path | None
    resume: bool
    json_file: Path | None
    no_attention: bool

    def require_valid(self, images: list[Path], figures: dict[str, Path | None]) -> None:
        """Check that there are images, and that the options do not exclude each other.

        Args:
            figures: values of the options that show attention.

        Raises:
            UserError: there is no image, or two options exclude each other.
        """
        if not images and self.source is None:
            raise UserError("caption: no image; give IMAGE, a folder or --input LIST")
        shown = next((option for option, value in figures.items() if value is not None), None)
        if self.no_attention and shown:
            raise UserError(f"--no-attention: {shown} shows attention; leave one of them out")
        if figures["--html"] is not None:
            given = {"--input": self.source, "--output": self.output, "--json": self.json_file}
            other = next((option for option, value in given.items() if value is not None), None)
            folder = next((f"{path}: a folder" for path in images if is_folder(path)), None)
            if other or folder:
                raise UserError(f"--html: a page shows single images; leave it out, or {other or folder}")
        if self.resume and (self.output is None or self.json_file is not None):
            raise UserError("--resume: goes on with the lines of --output FILE; give it without --json")

    def caption(self, model: "ImageCaptioner", images: list[Path], figures: Figures, decoding: dict[str, Any]) -> int:
        """Caption all images; return the exit code.

        Raises:
            UserError: all images are broken, a file cannot be read or written, or an option is wrong.
        """
        many = len(images) != 1 or is_folder(images[0]) or self.source is not None
        with open_outputs(self.output, self.json_file, self.resume) as outputs:
            if outputs.has_files and getattr(model.make_decoding(decoding), "n_best", 1) > 1:
                raise UserError("--n-best: files hold one caption per image; leave it out")
            report_search(model, decoding)
            files = itertools.islice(find_images(images, self.source), outputs.done, None)
            return caption_files(model, files, outputs, figures, decoding, prefixed=many)


@contextlib.contextmanager
def open_outputs(lines: Path | None, json_file: Path | None, resume: bool) -> Iterator[Outputs]:
    """Open the files of captions; the JSON file takes its place when all is done.

    Raises:
        UserError: a file cannot be written, or exists and is not to be continued.
    """
    with contextlib.ExitStack() as stack:
        writer = None if lines is None else stack.enter_context(LineWriter(lines, resume))
        entries = None
        if json_file is not None:
            temporary = stack.enter_context(replacing(json_file))
            # the bytes of a name that are no text become JSON's escapes
            file = stack.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace"))
            entries = JsonList(file)
        yield Outputs(writer, entries)
        if entries is not None:
            entries.close()
