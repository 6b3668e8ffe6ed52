"""Which images a command is given: files, folders, lists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from attendgen.utils.errors import UserError
from attendgen.utils.files import is_folder
from attendgen.utils.lines import read_line_blocks

COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d{12})")


class ImageFile(NamedTuple):
    """An image to caption, and its id in results files."""

    path: Path
    image_id: int | str


def find_images(given: list[Path], source: str | None) -> Iterator[ImageFile]:
    """Yield the images of arguments and folders, or of a list.

    A folder stands for all images in it, in the order of their names. The names in a list belong to the folder, if one
    is given as well.

    Args:
        given: images and folders.
        source: a file with one path per line, "-" for standard input, or a JSON file with `images` as COCO has them.

    Raises:
        UserError: a folder has no image, or the list is missing or broken.
    """
    if source is None:
        for path in given:
            yield from map(make_image_file, list_folder(path) if is_folder(path) else [path])
        return
    folder = get_list_folder(given)
    if source.lower().endswith(".json"):
        yield from read_coco_images(Path(source), folder)
        return
    for lines in read_line_blocks(source):
        yield from (make_image_file(folder / line) for line in lines if line.strip())


def get_list_folder(given: list[Path]) -> Path:
    """Return the folder to which the names in a list belong.

    Raises:
        UserError: there is something else than one folder beside the list.
    """
    if len(given) > 1 or any(not is_folder(path) for path in given):
        raise UserError(f"--input: {given[-1]}: only the folder of the listed images can stand beside a list")
    return given[0] if given else Path()


def list_folder(folder: Path) -> list[Path]:
    """Return the images in a folder by name, or the files of features if it has no images.

    Raises:
        UserError: it has none.
    """
    from PIL import Image

    from attendgen.data.captions.precomputed import is_feature_file

    endings = Image.registered_extensions()
    files = sorted(folder.iterdir())
    found = [path for path in files if path.suffix.lower() in endings]
    found = found or [path for path in files if is_feature_file(path)]
    if not found:
        raise UserError(f"{folder}: a folder without images; give another, or a list by --input FILE")
    return found


def make_image_file(path: Path) -> ImageFile:
    """Return an image with its id: the number in a name of COCO, else the name."""
    number = COCO_NAME.fullmatch(path.stem)
    return ImageFile(path, int(number[1]) if number else path.name)


def read_coco_images(path: Path, folder: Path) -> Iterator[ImageFile]:
    """Yield the images that a JSON file of COCO names, such as `image_info_test2017.json`.

    Raises:
        UserError: it is broken.
    """
    from attendgen.data.bad_rows import BadRowError, get_field
    from attendgen.data.captions.sources import read_object

    for number, row in enumerate(read_object(path, "images")[0]):
        try:
            yield ImageFile(folder / get_field(row, "file_name", str), get_field(row, "id", int | str))
        except BadRowError as error:
            raise UserError(f"{path}: image {number}: {error}") from error
