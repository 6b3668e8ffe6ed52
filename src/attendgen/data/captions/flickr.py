"""Readers of Flickr8k and Flickr30k, as their authors give them and as they are found today."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from attendgen.data.bad_rows import BadRowError, BadRows
from attendgen.data.captions.sources import (
    CaptionedImage,
    clean_caption,
    find_image_folder,
    require_ratios,
    select_split,
)
from attendgen.data.csv_rows import read_csv_rows, require_width
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.files import exists, read_text

TABLES = ("captions.txt", "captions.csv", "results.csv")  # of Flickr8k and Flickr30k
NUMBERED = re.compile(r"\s*\d+\s*[|\s]\s*(.*)")  # number and caption; a row of results.csv lacks the bar between them


class Flickr8k:
    """A token file, `IMAGE#NUMBER<tab>CAPTION` per line, and lists of each split's images.

    Args:
        root: folder with `Flickr8k.token.txt` and `Flickr_8k.{train,dev,test}Images.txt`.
        tokens: name of the token file, such as `results_20130124.token` of Flickr30k.
        lists: names of the lists, with {} for train, dev or test; None splits by `split_ratios`.
        images: folder of the images; None looks for the usual names.
        split_ratios: shares of train, val and test, if there are no lists.
        skip_bad: leave unusable lines out.
        encoding: of the files; None is UTF-8.

    Raises:
        UserError: the shares are not three numbers.
    """

    def __init__(
        self,
        root: str,
        tokens: str = "Flickr8k.token.txt",
        lists: str | None = "Flickr_8k.{}Images.txt",
        images: str | None = None,
        split_ratios: Sequence[int | float] = (90, 5, 5),
        skip_bad: bool = False,
        encoding: str | None = None,
    ) -> None:
        require_ratios(split_ratios)
        self.root = Path(root)
        self.tokens = self.root / tokens
        self.lists = lists
        self.images = find_image_folder(self.root, images)
        self.ratios = split_ratios
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split; "dev" and "val" name the same."""
        if self.lists is None:
            return select_split(self._read_captions(), self.images, split, self.ratios, self.tokens)
        listing = self.root / self.lists.format("dev" if split == "val" else split)
        self._suggest_table(listing)
        lines = (line.strip() for line in read_text(listing, self.encoding).split("\n"))
        names = list(dict.fromkeys(line for line in lines if line))
        if not names:
            raise UserError(f"{listing}: empty; expected the file name of an image per line")
        captions = self._read_captions()
        bare = [name for name in names if name not in captions]
        if bare:
            raise UserError(f"{self.tokens}: no caption for {len(bare)} images of {listing.name}: {format_some(bare)}")
        return [CaptionedImage(name, self.images / name, tuple(captions[name])) for name in names]

    def _suggest_table(self, listing: Path) -> None:
        found = next((name for name in TABLES if (self.root / name).is_file()), None)
        if found and not self.tokens.is_file() and not listing.is_file():
            raise UserError(f"{self.tokens}: no such file, but {found} is there; use data/source=flickr_csv")

    def _read_captions(self) -> dict[str, list[str]]:
        captions: dict[str, list[str]] = {}
        bad = BadRows(self.tokens, self.skip_bad)
        for number, line in enumerate(read_text(self.tokens, self.encoding).split("\n"), 1):
            if not line.strip():
                continue
            name, tab, caption = line.partition("\t")
            image, mark, _ = name.rpartition("#")
            if not tab or not mark:
                bad.add(f"line {number}", "expected 'IMAGE#NUMBER<tab>CAPTION'")
                continue
            try:
                cleaned = clean_caption(caption)
            except BadRowError as error:
                bad.add(f"line {number} ({name})", error)
            else:
                captions.setdefault(image, []).append(cleaned)
        bad.finish()
        return captions


class FlickrCsv:
    """A table of images and captions: Flickr8k's `captions.txt` with commas, Flickr30k's `results.csv` with bars.

    The first line names the columns: the image's first, the caption's last. There are no lists of splits.

    Args:
        root: folder with the table.
        file: its name; None looks for `captions.txt`, `captions.csv` and `results.csv`.
        images: folder of the images; None looks for the usual names.
        split_ratios: shares of train, val and test; an image's split depends on its name alone.
        skip_bad: leave unusable rows out.
        encoding: of the table; None is UTF-8.

    Raises:
        UserError: the shares are not three numbers, or there is no such table.
    """

    def __init__(
        self,
        root: str,
        file: str | None = None,
        images: str | None = None,
        split_ratios: Sequence[int | float] = (90, 5, 5),
        skip_bad: bool = False,
        encoding: str | None = None,
    ) -> None:
        require_ratios(split_ratios)
        folder = Path(root)
        found = [file] if file else [name for name in TABLES if (folder / name).is_file()]
        if not found:
            raise UserError(f"{folder}: none of {', '.join(TABLES)} is there; name the table by data.source.file")
        self.path = folder / found[0]
        self.images = find_image_folder(folder, images)
        self.ratios = split_ratios
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        captions: dict[str, list[str]] = {}
        bad = BadRows(self.path, self.skip_bad)
        for place, cells in self._read_rows():
            try:
                if isinstance(cells, BadRowError):
                    raise cells
                if len(cells) < 2 or not cells[0]:
                    raise BadRowError("expected an image and a caption")
                cleaned = clean_caption(cells[-1])
            except BadRowError as error:
                bad.add(place, error)
            else:
                captions.setdefault(cells[0], []).append(cleaned)
        bad.finish()
        return select_split(captions, self.images, split, self.ratios, self.path)

    def _read_rows(self) -> Iterator[tuple[str, list[str] | BadRowError]]:
        """Yield the place and the cells of each row below the header, or why it cannot be used.

        Raises:
            UserError: the first line names an image.
        """
        text = read_text(self.path, self.encoding)
        header, *lines = text.split("\n")
        first = self.images / re.split(r"[|,]", header)[0].strip()
        if exists(first) and first.is_file():
            raise UserError(f"{self.path}: line 1: an image; put the names of the columns before it, as image,caption")
        if "|" in header:
            for number, line in enumerate(lines, 2):
                if line.strip():
                    yield f"line {number}", _split_at_bars(line, header.count("|") > 1)
            return
        rows = read_csv_rows(self.path, self.encoding)
        _, names = next(rows, (1, []))
        for number, cells in rows:
            try:
                if isinstance(cells, BadRowError):
                    raise cells
                require_width(cells, 2 if isinstance(names, BadRowError) else len(names))
                yield f"line {number}", [cell.strip() for cell in cells]
            except BadRowError as error:
                yield f"line {number}", error


def _split_at_bars(line: str, numbered: bool) -> list[str]:
    """Return image and caption, which may hold bars; the number before a caption is left out."""
    image, _, caption = line.partition("|")
    if numbered:
        found = NUMBERED.fullmatch(caption)
        if not found:
            return [image.strip()]
        caption = found[1]
    return [image.strip(), caption.strip()]
