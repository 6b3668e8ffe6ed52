"""What all readers of caption data sets share: rows, unusable rows, folders of images, splits by name."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from attendgen.data.bad_rows import BadRowError, require_characters
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json

ImageId = int | str

# where data sets are found to keep their images; the first folder that exists is used
IMAGE_FOLDERS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images")


class CaptionedImage(NamedTuple):
    """One image and its reference captions."""

    image_id: ImageId
    path: Path
    captions: tuple[str, ...]


@runtime_checkable
class CaptionSource(Protocol):
    """Reads the splits of one data set."""

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read the images of split "train", "val" or "test".

        Raises:
            UserError: a file is missing or broken; the message names the file and the field.
        """


def clean_caption(text: object) -> str:
    """Return a caption without white space around it.

    Raises:
        BadRowError: it is empty or not a text, or holds half a character.
    """
    if not isinstance(text, str):
        raise BadRowError(f"expected a caption, found {type(text).__name__}")
    caption = text.strip()
    if not caption:
        raise BadRowError("empty caption")
    require_characters(caption)
    return caption


def read_object(path: Path, *fields: str) -> list[list[Any]]:
    """Return the lists that the fields of a JSON object hold.

    Raises:
        UserError: the file is missing or broken, or a field is missing, empty or not a list.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected an object with {' and '.join(map(repr, fields))}")
    lists = []
    for name in fields:
        value = data.get(name)
        if not isinstance(value, list) or not value:
            raise UserError(f"{path}: field {name!r} is missing, empty or not a list")
        lists.append(value)
    return lists


def find_image_folder(root: Path, given: str | None) -> Path:
    """Return the folder of a data set's images: the given one, or the first of `IMAGE_FOLDERS` that exists."""
    if given is not None:
        return root / given
    return next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root / IMAGE_FOLDERS[0])


def choose_split(name: str, ratios: Sequence[int | float]) -> str:
    """Return the split of an image of a data set that has none: by a digest of its name, the same everywhere.

    Args:
        ratios: of train, val and test.
    """
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 * sum(ratios)
    if place < ratios[0]:
        return "train"
    return "val" if place < ratios[0] + ratios[1] else "test"


def require_ratios(ratios: object) -> None:
    """Check the setting `data.source.split_ratios`.

    Raises:
        UserError: it is not three numbers from 0, of which the first is above 0.
    """
    numbers = list(ratios) if isinstance(ratios, Sequence) and not isinstance(ratios, str) else []
    valid = all(isinstance(n, int | float) and not isinstance(n, bool) and n >= 0 for n in numbers)
    if len(numbers) != 3 or not valid or not numbers[0]:
        raise UserError(
            f"data.source.split_ratios={ratios}: expected three numbers, the shares of train, val and test, as [90,5,5]"
        )


def select_split(
    captions: Mapping[str, Sequence[str]], folder: Path, split: str, ratios: Sequence[int | float], source: Path
) -> list[CaptionedImage]:
    """Return the images of a split that is chosen by name, in the order of the file.

    Args:
        captions: by the image's name.
        folder: of the images.
        source: the file of the captions, which messages name.

    Raises:
        UserError: the split has no image.
    """
    rows = [
        CaptionedImage(name, folder / name, tuple(texts))
        for name, texts in captions.items()
        if choose_split(name, ratios) == split
    ]
    if not rows:
        raise UserError(f"{source}: no image of split {split!r}; change data.source.split_ratios={list(ratios)}")
    return rows
