"""Reader of captioned images of one's own, one JSON object per line."""

from collections.abc import Sequence
from pathlib import Path

from attendgen.data.bad_rows import BadRowError, BadRows, get_field, read_object
from attendgen.data.captions.sources import (
    CaptionedImage,
    choose_split,
    clean_caption,
    require_ratios,
)
from attendgen.data.module import SPLITS, canonical_split
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text


class JsonLines:
    """`{"image": "a.jpg", "captions": ["...", "..."], "split": "train"}` per line; lines of one image are joined.

    Without `split`, an image's split depends on its name alone.

    Args:
        root: folder with the file.
        file: its name.
        images: folder to which the images' names belong.
        split_ratios: shares of train, val and test, if no line has a split.
        skip_bad: leave unusable lines out.
        encoding: of the file; None is UTF-8.

    Raises:
        UserError: the shares are not three numbers.
    """

    def __init__(
        self,
        root: str,
        file: str = "captions.jsonl",
        images: str = ".",
        split_ratios: Sequence[int | float] = (90, 5, 5),
        skip_bad: bool = False,
        encoding: str | None = None,
    ) -> None:
        require_ratios(split_ratios)
        self.path = Path(root) / file
        self.images = Path(root) / images
        self.ratios = split_ratios
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split.

        Raises:
            UserError: the file is missing or broken, only some lines have a split, or the split has no image.
        """
        found = self._read_rows()
        without = sum(own is None for own, _ in found)
        if without not in (0, len(found)):
            raise UserError(
                f"{self.path}: {without} of {len(found)} lines have no 'split'; give it in all lines or in none"
            )
        rows = [row for own, row in found if (own or choose_split(str(row.image_id), self.ratios)) == split]
        if not rows:
            advice = f"; change data.source.split_ratios={list(self.ratios)}" if without else ""
            raise UserError(f"{self.path}: no image of split {split!r}{advice}")
        return rows

    def _read_rows(self) -> list[tuple[str | None, CaptionedImage]]:
        bad = BadRows(self.path, self.skip_bad)
        rows: dict[str, tuple[str | None, CaptionedImage]] = {}
        for number, line in enumerate(read_text(self.path, self.encoding).split("\n"), 1):
            if not line.strip():
                continue
            try:
                self._add(rows, *self._read_row(line))
            except BadRowError as error:
                bad.add(f"line {number}", error)
        bad.finish()
        if not rows:
            raise UserError(f"{self.path}: empty; expected one JSON object per line")
        return list(rows.values())

    def _add(
        self, rows: dict[str, tuple[str | None, CaptionedImage]], split: str | None, image: CaptionedImage
    ) -> None:
        """Add an image, or further captions of one that an earlier line has.

        Raises:
            BadRowError: the earlier line has another split.
        """
        name = str(image.image_id)
        before, known = rows.get(name, (split, image._replace(captions=())))
        if split != before:
            raise BadRowError(f"field 'split': {split!r}, but an earlier line has {name} in {before!r}")
        rows[name] = split, known._replace(captions=known.captions + image.captions)

    def _read_row(self, line: str) -> tuple[str | None, CaptionedImage]:
        row = read_object(line)
        name = get_field(row, "image", str)
        if not name.strip():
            raise BadRowError("field 'image': empty")
        given = row.get("captions", row.get("caption"))
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts:
            raise BadRowError("field 'captions': expected a list of captions")
        split = row.get("split")
        if split is not None and (not isinstance(split, str) or canonical_split(split) not in SPLITS):
            raise BadRowError(f"field 'split': {split!r}: expected one of {', '.join(SPLITS)}")
        captions = tuple(clean_caption(text) for text in texts)
        return split and canonical_split(split), CaptionedImage(name, self.images / name, captions)
