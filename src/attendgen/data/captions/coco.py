"""Readers of JSON in COCO's form, and of Karpathy's splits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attendgen.data.bad_rows import BadRowError, BadRows, get_field
from attendgen.data.captions.boxes import WordBoxes, read_word_boxes
from attendgen.data.captions.sources import (
    CaptionedImage,
    ImageId,
    clean_caption,
    read_object,
)
from attendgen.utils.errors import UserError


class Coco:
    """COCO's form: a JSON file per split with `images` and `annotations`, beside a folder of images per split.

    An id may be a number or a text; ids are compared as they are written. Images without a caption are left out.

    Args:
        root: folder of the data set.
        year: 2014 or 2017, which the names below may contain.
        annotations: name of a split's JSON file, with {split} and {year}.
        images: name of a split's folder of images, with {split} and {year}.
        instances: name of a split's JSON file of COCO's instances, which `evaluate attention=own` reads.
        rejected: names of true-or-false fields of an annotation; an annotation with one that is true is left out.
        skip_bad: leave unusable rows out.
    """

    def __init__(
        self,
        root: str,
        year: int = 2017,
        annotations: str = "annotations/captions_{split}{year}.json",
        images: str = "{split}{year}",
        rejected: Iterable[str] = (),
        skip_bad: bool = False,
        instances: str = "annotations/instances_{split}{year}.json",
    ) -> None:
        self.root = Path(root)
        self.year = year
        self.instances = instances
        self.annotations = annotations
        self.images = images
        self.rejected = tuple(rejected)
        self.skip_bad = skip_bad

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        path = self.root / self.annotations.format(split=split, year=self.year)
        if split == "test" and not path.is_file():
            raise UserError(f"{path}: no such file; COCO's test captions are not public, use --split val")
        bad = BadRows(path, self.skip_bad)
        images, annotations = read_object(path, "images", "annotations")
        names = self._read_names(images, bad)
        captions = self._read_captions(annotations, names, bad)
        bad.finish()
        if not captions:
            raise UserError(f"{path}: no image has a caption; expected annotations with image_id and caption")
        folder = self.root / self.images.format(split=split, year=self.year)
        rows = [CaptionedImage(*names[key], tuple(texts)) for key, texts in captions.items()]
        return sorted((row._replace(path=folder / row.path) for row in rows), key=_order)

    def locate_words(self, split: str) -> WordBoxes:
        """Return the boxes of COCO's instances by the words of captions for them."""
        return read_word_boxes(self.root / self.instances.format(split=split, year=self.year))

    def _read_names(self, images: list[Any], bad: BadRows) -> dict[str, tuple[ImageId, Path]]:
        """Return the id and the file of each image, by the id as it is written."""
        names: dict[str, tuple[ImageId, Path]] = {}
        for i, image in enumerate(images):
            try:
                image_id = get_field(image, "id", ImageId)
                file = Path(get_field(image, "file_name", str))
                known, before = names.setdefault(str(image_id), (image_id, file))
                if before != file:
                    raise BadRowError(f"id {known} is that of {before}, and of {file}")
            except BadRowError as error:
                bad.add(f"images[{i}]", error)
        return names

    def _read_captions(
        self, annotations: list[Any], names: dict[str, tuple[ImageId, Path]], bad: BadRows
    ) -> dict[str, list[str]]:
        captions: dict[str, list[str]] = {}
        unknown: list[tuple[int, str]] = []
        for i, annotation in enumerate(annotations):
            try:
                key = str(get_field(annotation, "image_id", ImageId))
                if any(annotation.get(field) for field in self.rejected):
                    continue
                if key not in names:
                    unknown.append((i, key))
                    continue
                cleaned = clean_caption(get_field(annotation, "caption"))
            except BadRowError as error:
                bad.add(f"annotations[{i}]", error)
            else:
                captions.setdefault(key, []).append(cleaned)
        if unknown and len(unknown) == len(annotations):
            example = next(iter(names), "none")
            raise UserError(
                f"{bad.path}: no annotation names one of the images: the first says image_id {unknown[0][1]}, "
                f"the first image has the id {example}"
            )
        for i, key in unknown:
            bad.add(f"annotations[{i}]", f"image_id {key} is not among the images")
        return captions


def _order(row: CaptionedImage) -> tuple[bool, ImageId]:
    """Return the place of an image: numbers in order, then texts."""
    return isinstance(row.image_id, str), row.image_id


class TextCaps:
    """TextCaps: a JSON file per split whose `data` has a caption per row, and all captions of the image.

    Args:
        root: folder of the data set.
        annotations: name of a split's JSON file, with {split}.
        images: folder of the images, each called as its `image_id`, with {split}.
        suffix: of the images' files.
        skip_bad: leave unusable rows out.
    """

    def __init__(
        self,
        root: str,
        annotations: str = "TextCaps_0.1_{split}.json",
        images: str = "train_images",
        suffix: str = ".jpg",
        skip_bad: bool = False,
    ) -> None:
        self.root = Path(root)
        self.annotations = annotations
        self.images = images
        self.suffix = suffix
        self.skip_bad = skip_bad

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        path = self.root / self.annotations.format(split=split)
        bad = BadRows(path, self.skip_bad)
        captions: dict[ImageId, dict[str, None]] = {}  # each caption of an image once
        for i, row in enumerate(read_object(path, "data")[0]):
            try:
                texts = [get_field(row, "caption_str"), *row.get("reference_strs", ())]
                cleaned = [clean_caption(text) for text in texts]
                captions.setdefault(get_field(row, "image_id", ImageId), {}).update(dict.fromkeys(cleaned))
            except BadRowError as error:
                bad.add(f"data[{i}]", error)
        bad.finish()
        folder = self.root / self.images.format(split=split)
        return [CaptionedImage(key, folder / f"{key}{self.suffix}", tuple(texts)) for key, texts in captions.items()]


class Karpathy:
    """Karpathy's split files `dataset_{coco,flickr8k,flickr30k}.json`.

    Args:
        root: folder with the JSON file and the images' folder.
        file: the JSON file's name.
        images: the images' folder, in which `filepath` (if given) and `filename` are looked up.
        restval: count COCO's "restval" images as training images, as published results do.
        skip_bad: leave unusable rows out.
    """

    def __init__(
        self,
        root: str,
        file: str = "dataset_coco.json",
        images: str = ".",
        restval: bool = True,
        skip_bad: bool = False,
    ) -> None:
        self.file = Path(root) / file
        self.images = Path(root) / images
        self.restval = restval
        self.skip_bad = skip_bad

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        wanted = {split, "restval"} if split == "train" and self.restval else {split}
        bad = BadRows(self.file, self.skip_bad)
        rows = []
        for i, image in enumerate(read_object(self.file, "images")[0]):
            try:
                if get_field(image, "split") not in wanted:
                    continue
                name = get_field(image, "filename", str)
                captions = self._read_sentences(image, f"images[{i}]", bad)
            except BadRowError as error:
                bad.add(f"images[{i}]", error)
                continue
            if captions:
                # Flickr's ids are file names, COCO's are numbers
                path = self.images / (image.get("filepath") or "") / name
                rows.append(CaptionedImage(image.get("cocoid", name), path, tuple(captions)))
        bad.finish()
        if not rows:
            raise UserError(f"{self.file}: no image of split {split!r}")
        return rows

    def _read_sentences(self, image: dict[str, Any], where: str, bad: BadRows) -> list[str]:
        captions = []
        for j, sentence in enumerate(get_field(image, "sentences", list)):
            try:
                captions.append(clean_caption(get_field(sentence, "raw")))
            except BadRowError as error:
                bad.add(f"{where}.sentences[{j}]", error)
        return captions
