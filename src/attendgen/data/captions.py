"""Captioned pictures: Flickr8k token files, COCO's own JSON, Karpathy's JSON."""

import logging
import os
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from attendgen.data.batch import CaptionBatch, shifted
from attendgen.data.batching import bucket_loader, require_positive
from attendgen.data.features import FeatureCache, ImageEncoder, PixelData, cached_features, missing_images
from attendgen.data.neighbours import Neighbours
from attendgen.data.packed import Groups, Packed, Strings, without_collection
from attendgen.errors import UserError
from attendgen.files import read_json, read_text
from attendgen.vocabulary import Vocabulary

log = logging.getLogger(__name__)

ImageId = int | str

LONGEST_CAPTION = 100  # words; anything longer is two captions run together, or no caption at all


class Captioned(NamedTuple):
    """One picture and its reference captions."""

    image_id: ImageId
    path: Path
    captions: tuple[str, ...]


class CaptionedRows(Packed[Captioned]):
    """Captioned pictures in arrays."""

    def __init__(self, rows: Sequence[Captioned]) -> None:
        ids = [row.image_id for row in rows]
        numbers = [image_id for image_id in ids if isinstance(image_id, int)]
        self.image_ids: Sequence[ImageId] = array("q", numbers) if len(numbers) == len(ids) else ids
        folders: dict[str, int] = {}
        split = [os.path.split(row.path) for row in rows]
        self.folder_of = array("i", [folders.setdefault(folder, len(folders)) for folder, _ in split])
        self.folders = [Path(folder) for folder in folders]
        self.names = Strings([name for _, name in split])
        self.captions = Strings([caption for row in rows for caption in row.captions])
        self.bounds = array("q", accumulate((len(row.captions) for row in rows), initial=0))

    def __len__(self) -> int:
        return len(self.names)

    def get(self, index: int) -> Captioned:
        captions = tuple(self.captions[self.bounds[index] : self.bounds[index + 1]])
        return Captioned(self.image_ids[index], self.folders[self.folder_of[index]] / self.names[index], captions)

    def paths(self) -> list[Path]:
        """The pictures' files."""
        return [self.folders[folder] / name for folder, name in zip(self.folder_of, self.names, strict=True)]

    def references(self) -> Iterator[tuple[str, ...]]:
        """The captions of each picture."""
        captions = iter(self.captions)
        for begin, end in pairwise(self.bounds):
            yield tuple(islice(captions, end - begin))


@runtime_checkable
class CaptionSource(Protocol):
    """Reads the splits of one data set."""

    def __call__(self, split: str) -> list[Captioned]:
        """The pictures of split "train", "val" or "test".

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

    def __call__(self, split: str) -> list[Captioned]:
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
            caption = _caption(caption, self.tokens, "line {} ({})", number, name)
            name = name.rpartition("#")[0]
            if name in captions:
                captions[name].append(caption)
        bare = [name for name in names if not captions[name]]
        if bare:
            raise UserError(
                f"{self.tokens}: no caption for {len(bare)} images of {listing.name}: {', '.join(bare[:5])}"
            )
        return [Captioned(name, self.root / "Images" / name, tuple(captions[name])) for name in names]


class CocoNative:
    """COCO's own layout: `annotations/captions_{train,val}<year>.json` beside `{train,val}<year>/`.

    Only train and val have public captions; there is no test split.

    Args:
        root: the folder that holds `annotations`.
        year: 2014 or 2017.
    """

    def __init__(self, root: str, year: int = 2017) -> None:
        self.root = Path(root)
        self.year = year

    def __call__(self, split: str) -> list[Captioned]:
        if split == "test":
            raise UserError(f"{self.root}: COCO's test captions are not public; use --split val")
        part = f"{split}{self.year}"
        path = self.root / "annotations" / f"captions_{part}.json"
        data = read_json(path)
        if not isinstance(data, dict):
            raise UserError(f"{path}: expected an object with 'images' and 'annotations'")
        names = {
            _field(image, "id", path, "images", i, ImageId): _field(image, "file_name", path, "images", i, str)
            for i, image in enumerate(_listed(data, "images", path))
        }
        captions: dict[ImageId, list[str]] = {}
        for i, annotation in enumerate(_listed(data, "annotations", path)):
            image_id = _field(annotation, "image_id", path, "annotations", i, ImageId)
            if image_id not in names:
                raise UserError(f"{path}: annotations[{i}].image_id: {image_id} is not among the images")
            _field(annotation, "id", path, "annotations", i)
            caption = _field(annotation, "caption", path, "annotations", i)
            captions.setdefault(image_id, []).append(_caption(caption, path, "annotations[{}].caption", i))
        # a picture without captions can neither teach nor be scored
        folder = self.root / part
        return [Captioned(key, folder / names[key], tuple(captions[key])) for key in sorted(captions)]


class Karpathy:
    """Karpathy's split files `dataset_{coco,flickr8k,flickr30k}.json`.

    Args:
        root: folder with the JSON file and the pictures' folder.
        file: the JSON file's name.
        images: the pictures' folder, in which `filepath` (if given) and `filename` are looked up.
        restval: count COCO's "restval" pictures as training ones, as published results do.
    """

    def __init__(self, root: str, file: str = "dataset_coco.json", images: str = ".", restval: bool = True) -> None:
        self.file = Path(root) / file
        self.images = Path(root) / images
        self.restval = restval

    def __call__(self, split: str) -> list[Captioned]:
        data = read_json(self.file)
        if not isinstance(data, dict):
            raise UserError(f"{self.file}: expected an object with 'images'")
        wanted = {split, "restval"} if split == "train" and self.restval else {split}
        rows = []
        for i, image in enumerate(_listed(data, "images", self.file)):
            if _field(image, "split", self.file, "images", i) not in wanted:
                continue
            name = _field(image, "filename", self.file, "images", i, str)
            captions = []
            for j, sentence in enumerate(_field(image, "sentences", self.file, "images", i, list)):
                where = f"images[{i}].sentences"
                raw = _field(sentence, "raw", self.file, where, j)
                captions.append(_caption(raw, self.file, where + "[{}].raw", j))
            if captions:
                # Flickr's ids are file names, COCO's are numbers
                rows.append(
                    Captioned(
                        image.get("cocoid", name), self.images / (image.get("filepath") or "") / name, tuple(captions)
                    )
                )
        if not rows:
            raise UserError(f"{self.file}: no image of split {split!r}")
        return rows


def _caption(text: object, path: Path, where: str, *fields: object) -> str:
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


def _listed(data: dict[str, Any], field: str, path: Path) -> list[Any]:
    value = data.get(field)
    if not isinstance(value, list) or not value:
        raise UserError(f"{path}: field '{field}' is missing, empty or no list")
    return value


def _field(item: Any, field: str, path: Path, where: str, index: int, kind: Any = object) -> Any:
    if not isinstance(item, dict) or field not in item:
        raise UserError(f"{path}: {where}[{index}]: field '{field}' is missing")
    value = item[field]
    if not isinstance(value, kind):
        wanted = getattr(kind, "__name__", kind)
        raise UserError(f"{path}: {where}[{index}].{field}: expected {wanted}, found {type(value).__name__}")
    return value


@runtime_checkable
class Pictures(Protocol):
    """Pictures or their features by index."""

    def __getitem__(self, index: int) -> Tensor: ...


class CaptionData(Dataset[tuple[int, Tensor, list[list[int] | None]]]):
    """Pictures (or their features) with ids of up to `captions` captions each.

    When there are more captions, or several `views` of the pictures, they are drawn anew, by seed, epoch and picture
    alone.
    """

    def __init__(
        self,
        ids: Groups,
        views: Sequence[Pictures],
        captions: int,
        seed: int = 0,
    ) -> None:
        self.ids = ids
        self.views = views
        self.captions = captions
        self.seed = seed
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()  # a loader's workers must see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose captions are drawn; the loader calls this."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[int, Tensor, list[list[int] | None]]:
        ids = self.ids[index]
        if len(ids) > self.captions:
            ids = random.Random(f"{self.seed}-{int(self.epoch)}-{index}").sample(ids, self.captions)
        view = random.Random(f"view-{self.seed}-{int(self.epoch)}-{index}").randrange(len(self.views))
        return index, self.views[view][index], [*ids, *[None] * (self.captions - len(ids))]


def collate(examples: Sequence[tuple[int, Tensor, list[list[int] | None]]]) -> CaptionBatch:
    """Stack pictures and pad captions."""
    index, pictures, captions = zip(*examples, strict=True)
    each = len(captions[0])
    inputs, outputs = shifted([row for rows in captions for row in rows])
    return CaptionBatch(
        torch.tensor(index),
        torch.stack(pictures),
        inputs.unflatten(0, (-1, each)),
        outputs.unflatten(0, (-1, each)),
    )


class CaptionDataModule(lightning.LightningDataModule):
    """Captioned pictures for training, validation and test; the vocabulary comes from the training captions alone.

    Args:
        root: folder of the data set.
        source: makes the reader of the splits from `root`.
        encoder: whose picture size is used and, if it is frozen, whose features can be cached; training and
            evaluation set it to the model's own.
        cache: folder of the feature cache; None delivers pixels, as a trained encoder needs.
        batch_size: pictures a batch.
        captions: captions a picture and epoch: in training drawn anew from those there are, else the first.
        views: of each training picture, one of which is drawn in each epoch: the picture itself, its mirror image,
            and crops of it (`images.look_at`).
        max_length: longer training captions are cut to this many words; how many is logged.
        min_frequency: rarer words become <unk>.
        limit: use the first so many pictures of each split (for tests).
    """

    def __init__(
        self,
        root: str,
        source: Callable[[str], CaptionSource],
        encoder: ImageEncoder | None = None,
        cache: str | None = None,
        batch_size: int = 32,
        captions: int = 5,
        views: int = 1,
        max_length: int = 25,
        min_frequency: int = 5,
        workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        require_positive(batch_size=batch_size, captions=captions, views=views, max_length=max_length)
        self.source = source(root)
        self.encoder = encoder
        self.cache = cache
        self.batch_size = batch_size
        self.captions = captions
        self.views = views
        self.max_length = max_length
        self.min_frequency = min_frequency
        self.workers = workers
        self.seed = seed
        self.limit = limit
        self.eval_split = "val"  # what the validation loop reads
        self.vocabulary: Vocabulary | None = None
        self.splits: dict[str, CaptionedRows] = {}
        self.sets: dict[str, CaptionData] = {}

    @without_collection()
    def rows(self, split: str) -> CaptionedRows:
        """A split's pictures and references.

        Raises:
            UserError: an annotation file is broken, or images are missing (all are named).
        """
        split = "val" if split == "dev" else split
        if split not in self.splits:
            rows = self.source(split)[: self.limit]
            missing = missing_images([row.path for row in rows])
            if missing:
                folder = os.path.commonpath([path.parent for path in missing]) or "."
                names = ", ".join(str(path.relative_to(folder)) for path in missing)
                raise UserError(f"{folder}: {len(missing)} annotated images missing: {names}")
            self.splits[split] = CaptionedRows(rows)
        return self.splits[split]

    @without_collection()
    def build_vocabulary(self) -> Vocabulary:
        """The words of the training captions."""
        self.vocabulary = Vocabulary.build(self.rows("train").captions, "caption", "lower", self.min_frequency)
        return self.vocabulary

    def prepare_data(self) -> None:
        """Fill the feature cache in one process alone, before the others open it."""
        self.setup(self.trainer.state.fn if self.trainer else None)

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs and open their features."""
        for split in ("train", "val") if stage == "fit" else (self.eval_split,):
            self.dataset(split)

    @without_collection()
    def dataset(self, split: str) -> CaptionData:
        """A split's examples."""
        if split not in self.sets:
            if self.vocabulary is None:
                self.build_vocabulary()
            assert self.vocabulary is not None
            ids = self.encoded(split, self.vocabulary)
            paths = self.rows(split).paths()
            views = [self.pictures(paths, view) for view in range(self.views if split == "train" else 1)]
            self.sets[split] = CaptionData(ids, views, self.captions, self.seed)
        return self.sets[split]

    def encoded(self, split: str, vocabulary: Vocabulary) -> Groups:
        """The ids of each picture's captions; how many of training were too long, and were cut, is logged."""
        cut = 0

        def encode(caption: str) -> list[int]:
            nonlocal cut
            ids = vocabulary.encode(caption)
            if split == "train" and len(ids) > self.max_length:
                cut += 1
                ids = ids[: self.max_length]
            return ids

        most = None if split == "train" else self.captions  # every evaluation scores the same captions
        ids = Groups([encode(caption) for caption in captions[:most]] for captions in self.rows(split).references())
        if cut:
            log.info("%d training captions cut to %d words", cut, self.max_length)
        return ids

    def pictures(self, paths: Sequence[Path], view: int = 0) -> Pictures:
        """The cached features of one view of some pictures, or its pixels.

        Raises:
            UserError: features are to be cached of an encoder that is trained, or a picture is missing or broken.
        """
        assert self.encoder is not None
        if self.cache is None:
            return PixelData(paths, self.encoder.size, view)
        if not self.encoder.frozen:
            raise UserError(
                "model.encoder.frozen=false or .trainable above 0: features of a trained encoder cannot be cached; "
                "set data.cache=null"
            )
        return cached_features(self.encoder, paths, Path(self.cache), workers=self.workers, view=view)

    def neighbours(self, number: int) -> Neighbours:
        """So many training pictures that look like a picture, by the encoder's features.

        Raises:
            UserError: features are not cached, there are not so many training pictures, or these are to be scored.
        """
        assert self.vocabulary is not None
        if self.eval_split == "train":
            raise UserError(f"decoding.neighbours={number}: a training picture finds itself; choose another split")
        paths = self.rows("train").paths()
        if number > len(paths):
            raise UserError(f"decoding.neighbours={number}: there are {len(paths)} training pictures")
        pictures = self.pictures(paths)
        if not isinstance(pictures, FeatureCache):
            raise UserError(f"decoding.neighbours={number}: asks for cached features; set data.cache=DIR")
        return Neighbours(pictures.means(), self.encoded("train", self.vocabulary), number)

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """The raw captions of each picture, by index."""
        return dict(enumerate(self.rows(split).references()))

    def image_ids(self, split: str) -> list[ImageId]:
        """Each picture's name in results files: Flickr's file name, COCO's number."""
        return list(self.rows(split).image_ids)

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Any]:
        """Batches of a split: shuffled buckets, or in order of length, every picture once."""
        data = self.dataset(split)
        return bucket_loader(self, data, data.ids.longest(), collate, self.batch_size, shuffle, self.workers, self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(self.eval_split)
