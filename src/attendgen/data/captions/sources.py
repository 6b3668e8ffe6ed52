"""Readers of caption data sets: Flickr8k token files, COCO's own JSON, Karpathy's JSON."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text

ImageId = int | str


LONGEST_CAPTION = 100  # words; anything longer is not a caption


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


class Flickr8k:
    """Flickr8k's (or 30k's) token file and image lists; "dev" and "val" name the same split.

    Args:
        root: folder with `Flickr8k.token.txt`, `Flickr_8k.{train,dev,test}Images.txt` and `Images/`.
    """

    def __init__(self, root: str, tokens: str = "Flickr8k.token.txt", lists: str = "Flickr_8k.{}Images.txt") -> None:
        self.root = Path(root)
        self.tokens = self.root / tokens
        self.lists = lists

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        listing = self.root / self.lists.format("dev" if split == "val" else split)
        names = list(dict.fromkeys(line.strip() for line in read_text(listing).split("\n") if line.strip()))
        if not names:
            raise UserError(f"{listing}: empty image list")
        captions: dict[str, list[str]] = {name: [] for name in names}
        for number, line in enumerate(read_text(self.tokens).split("\n"), 1):
            name, tab, caption = line.partition("\t")
            if not line.strip():
                continue
            if not tab or "#" not in name:
                raise UserError(f"{self.tokens}: line {number}: expected 'IMAGE#NUMBER<tab>CAPTION'")
            caption = _clean_caption(caption, self.tokens, "line {} ({})", number, name)
            name = name.rpartition("#")[0]
            if name in captions:
                captions[name].append(caption)
        bare = [name for name in names if not captions[name]]
        if bare:
            raise UserError(
                f"{self.tokens}: no caption for {len(bare)} images of {listing.name}: {', '.join(bare[:5])}"
            )
        return [CaptionedImage(name, self.root / "Images" / name, tuple(captions[name])) for name in names]


class Coco:
    """COCO's own layout: `annotations/captions_{train,val}<year>.json` beside `{train,val}<year>/`.

    Only train and val have public captions; there is no test split.

    Args:
        root: the folder that holds `annotations`.
        year: 2014 or 2017.
    """

    def __init__(self, root: str, year: int = 2017) -> None:
        self.root = Path(root)
        self.year = year

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        if split == "test":
            raise UserError(f"{self.root}: COCO's test captions are not public; use --split val")
        part = f"{split}{self.year}"
        path = self.root / "annotations" / f"captions_{part}.json"
        data = read_json(path)
        if not isinstance(data, dict):
            raise UserError(f"{path}: expected an object with 'images' and 'annotations'")
        names = {
            _get_field(image, "id", path, "images", i, ImageId): _get_field(image, "file_name", path, "images", i, str)
            for i, image in enumerate(_get_list(data, "images", path))
        }
        captions: dict[ImageId, list[str]] = {}
        for i, annotation in enumerate(_get_list(data, "annotations", path)):
            image_id = _get_field(annotation, "image_id", path, "annotations", i, ImageId)
            if image_id not in names:
                raise UserError(f"{path}: annotations[{i}].image_id: {image_id} is not among the images")
            _get_field(annotation, "id", path, "annotations", i)
            caption = _get_field(annotation, "caption", path, "annotations", i)
            captions.setdefault(image_id, []).append(_clean_caption(caption, path, "annotations[{}].caption", i))
        # an image without captions can neither be trained on nor scored
        folder = self.root / part
        return [CaptionedImage(key, folder / names[key], tuple(captions[key])) for key in sorted(captions)]


class Karpathy:
    """Karpathy's split files `dataset_{coco,flickr8k,flickr30k}.json`.

    Args:
        root: folder with the JSON file and the images' folder.
        file: the JSON file's name.
        images: the images' folder, in which `filepath` (if given) and `filename` are looked up.
        restval: count COCO's "restval" images as training images, as published results do.
    """

    def __init__(self, root: str, file: str = "dataset_coco.json", images: str = ".", restval: bool = True) -> None:
        self.file = Path(root) / file
        self.images = Path(root) / images
        self.restval = restval

    def __call__(self, split: str) -> list[CaptionedImage]:
        """Read a split."""
        data = read_json(self.file)
        if not isinstance(data, dict):
            raise UserError(f"{self.file}: expected an object with 'images'")
        wanted = {split, "restval"} if split == "train" and self.restval else {split}
        rows = []
        for i, image in enumerate(_get_list(data, "images", self.file)):
            if _get_field(image, "split", self.file, "images", i) not in wanted:
                continue
            name = _get_field(image, "filename", self.file, "images", i, str)
            captions = []
            for j, sentence in enumerate(_get_field(image, "sentences", self.file, "images", i, list)):
                where = f"images[{i}].sentences"
                raw = _get_field(sentence, "raw", self.file, where, j)
                captions.append(_clean_caption(raw, self.file, where + "[{}].raw", j))
            if captions:
                # Flickr's ids are file names, COCO's are numbers
                rows.append(
                    CaptionedImage(
                        image.get("cocoid", name), self.images / (image.get("filepath") or "") / name, tuple(captions)
                    )
                )
        if not rows:
            raise UserError(f"{self.file}: no image of split {split!r}")
        return rows


def _clean_caption(text: object, path: Path, where: str, *fields: object) -> str:
    caption = text.strip() if isinstance(text, str) else ""
    # a word and the space after it are two characters at least
    if caption and (len(caption) < 2 * LONGEST_CAPTION or len(caption.split()) <= LONGEST_CAPTION):
        return caption
    where = f"{path}: {where.format(*fields)}"
    if not isinstance(text, str):
        raise UserError(f"{where}: expected a caption, found {type(text).__name__}")
    if not caption:
        raise UserError(f"{where}: empty caption")
    raise UserError(f"{where}: a caption of {len(caption.split())} words; the most is {LONGEST_CAPTION}")


def _get_list(data: dict[str, Any], field: str, path: Path) -> list[Any]:
    value = data.get(field)
    if not isinstance(value, list) or not value:
        raise UserError(f"{path}: field '{field}' is missing, empty or not a list")
    return value


def _get_field(item: Any, field: str, path: Path, where: str, index: int, kind: Any = object) -> Any:
    if not isinstance(item, dict) or field not in item:
        raise UserError(f"{path}: {where}[{index}]: field '{field}' is missing")
    value = item[field]
    if not isinstance(value, kind):
        wanted = getattr(kind, "__name__", kind)
        raise UserError(f"{path}: {where}[{index}].{field}: expected {wanted}, found {type(value).__name__}")
    return value
