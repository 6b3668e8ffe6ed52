"""Boxes of the things that the words of captions name: links of words to boxes, also from COCO's instances."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from attendgen.data.bad_rows import BadRowError, get_field
from attendgen.data.captions.sources import ImageId
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json


class Box(NamedTuple):
    """A box in an image: its edges as shares of the width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies in the box."""
        return bool(self.left <= x <= self.right and self.top <= y <= self.bottom)


# by the id of an image as it is written, and by word or phrase in lower case
WordBoxes = Mapping[str, Mapping[str, list[Box]]]


@runtime_checkable
class LocatedSource(Protocol):
    """A source of captioned images that knows where the things are that words name."""

    def locate_words(self, split: str) -> WordBoxes:
        """Return the boxes of each image's words."""


# words of captions for COCO's categories, beside the names of the categories
PEOPLE = (
    "person people man men woman women boy boys girl girls child children kid kids baby babies lady ladies guy guys "
    "player players skier skiers surfer surfers snowboarder snowboarders skateboarder skateboarders rider riders"
)
SYNONYMS: dict[str, tuple[str, ...]] = {
    "person": tuple(PEOPLE.split()),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike",),
    "airplane": ("plane", "jet", "aircraft"),
    "boat": ("ship",),
    "bird": ("seagull", "duck", "pigeon"),
    "cat": ("kitten",),
    "dog": ("puppy",),
    "cow": ("bull", "calf"),
    "sheep": ("lamb",),
    "backpack": ("bag",),
    "handbag": ("purse", "bag"),
    "suitcase": ("luggage",),
    "frisbee": ("disc",),
    "sports ball": ("ball",),
    "wine glass": ("glass",),
    "cup": ("mug",),
    "donut": ("doughnut",),
    "couch": ("sofa",),
    "potted plant": ("plant",),
    "dining table": ("table",),
    "tv": ("television",),
    "cell phone": ("phone", "cellphone"),
    "refrigerator": ("fridge",),
    "hair drier": ("hair dryer",),
}


def read_word_boxes(path: Path) -> WordBoxes:
    """Return the links of a JSON file: `{image: {word: [[left, top, right, bottom], ...]}}`, or COCO's instances.

    Raises:
        UserError: the file is missing or broken, or a box is not one.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not data:
        raise UserError(f"{path}: expected an object with the words of each image; see docs/guide/looking_inside.md")
    if "annotations" in data and "categories" in data:
        return convert_instances(data, path)
    links: dict[str, dict[str, list[Box]]] = {}
    for image, words in data.items():
        if not isinstance(words, dict):
            raise UserError(f"{path}: {image}: expected an object of words, found {type(words).__name__}")
        links[image] = {word.lower(): read_boxes(boxes, f"{path}: {image}: {word}") for word, boxes in words.items()}
    return links


def read_boxes(boxes: Any, field: str) -> list[Box]:
    """Return the boxes of a word.

    Args:
        field: what a message begins with.

    Raises:
        UserError: one is not four shares of the image, in order.
    """
    if not isinstance(boxes, list) or not boxes:
        raise UserError(f"{field}: expected a list of boxes")
    found = []
    for box in boxes:
        is_box = isinstance(box, list) and len(box) == 4 and all(type(share) in (int, float) for share in box)
        if not is_box or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise UserError(
                f"{field}: {box}: expected left, top, right and bottom as shares of width and height, from 0 to 1"
            )
        found.append(Box(*map(float, box)))
    return found


def convert_instances(data: dict[str, Any], path: Path) -> WordBoxes:
    """Return the boxes of COCO's instances by the words that captions use for their categories.

    Raises:
        UserError: a field is missing or of another kind.
    """
    sizes = dict(read_rows(data, "images", path, read_size))
    words = dict(read_rows(data, "categories", path, read_words))

    def read_instance(row: Any) -> tuple[ImageId, list[str], Box]:
        image, category = get_field(row, "image_id", ImageId), get_field(row, "category_id", int)
        return image, words[category], to_shares(get_field(row, "bbox", list), *sizes[image])

    links: dict[str, dict[str, list[Box]]] = {}
    for image, names, box in read_rows(data, "annotations", path, read_instance):
        for name in names:
            links.setdefault(str(image), {}).setdefault(name, []).append(box)
    return links


def read_rows(data: dict[str, Any], field: str, path: Path, read: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield what a function reads of each object of a list.

    Raises:
        UserError: the field is not a list, or an object lacks something.
    """
    rows = data.get(field)
    if not isinstance(rows, list):
        raise UserError(f"{path}: field {field!r} is missing or not a list")
    for number, row in enumerate(rows):
        try:
            yield read(row)
        except (BadRowError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise UserError(f"{path}: {field}[{number}]: not one of COCO's instances: {error}") from error


def read_size(image: Any) -> tuple[ImageId, tuple[float, float]]:
    """Return the id of an image, and its width and height."""
    width, height = (float(get_field(image, side, int | float)) for side in ("width", "height"))
    return get_field(image, "id", ImageId), (width, height)


def read_words(category: Any) -> tuple[int, list[str]]:
    """Return the id of a category, and the words for it."""
    return get_field(category, "id", int), list_words(get_field(category, "name", str))


def to_shares(bbox: list[Any], width: float, height: float) -> Box:
    """Return a box of COCO: left, top, width and height in pixels."""
    left, top, wide, high = bbox
    return Box(left / width, top / height, (left + wide) / width, (top + high) / height)


def list_words(category: str) -> list[str]:
    """Return the words and phrases by which captions name a category, in singular and plural."""
    names = [category.lower(), *SYNONYMS.get(category.lower(), ())]
    return list(dict.fromkeys([*names, *map(make_plural, names)]))


def make_plural(word: str) -> str:
    """Return the regular plural of an English word."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else f"{word}s"


def require_images(links: WordBoxes, images: Iterable[ImageId], field: str) -> None:
    """Check that links are of some of a split's images.

    Args:
        field: what the message begins with.

    Raises:
        UserError: they are of others.
    """
    names = list(map(str, images))
    if not links.keys() & set(names):
        example = next(iter(links), "none")
        raise UserError(f"{field}: none of its images is in the split: it names {example}, the split {names[0]}")
