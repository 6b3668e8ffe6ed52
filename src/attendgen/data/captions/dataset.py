"""Captioned images as a torch data set."""

import os
import random
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from attendgen.data.batch import CaptionBatch, shift_targets
from attendgen.data.captions.features import FeatureCache, take_from_views
from attendgen.data.captions.sources import CaptionedImage, ImageId
from attendgen.data.packed import Packed, PackedIds, PackedStrings
from attendgen.layers.encoder import Features, join_features

Example = tuple[int, Tensor | Features, list[list[int] | None]]


class CaptionedImages(Packed[CaptionedImage]):
    """Captioned images in arrays."""

    def __init__(self, rows: Sequence[CaptionedImage]) -> None:
        ids = [row.image_id for row in rows]
        numbers = [image_id for image_id in ids if isinstance(image_id, int)]
        self.image_ids: Sequence[ImageId] = array("q", numbers) if len(numbers) == len(ids) else ids
        folders: dict[str, int] = {}
        split = [os.path.split(row.path) for row in rows]
        self.folder_of = array("i", [folders.setdefault(folder, len(folders)) for folder, _ in split])
        self.folders = [Path(folder) for folder in folders]
        self.names = PackedStrings([name for _, name in split])
        self.captions = PackedStrings([caption for row in rows for caption in row.captions])
        self.bounds = array("q", accumulate((len(row.captions) for row in rows), initial=0))

    def __len__(self) -> int:
        return len(self.names)

    def get(self, index: int) -> CaptionedImage:
        """Return image `index`, from 0 to below the length."""
        captions = tuple(self.captions[self.bounds[index] : self.bounds[index + 1]])
        path = self.folders[self.folder_of[index]] / self.names[index]
        return CaptionedImage(self.image_ids[index], path, captions)

    def paths(self) -> list[Path]:
        """Return the images' files."""
        return [self.folders[folder] / name for folder, name in zip(self.folder_of, self.names, strict=True)]

    def references(self) -> Iterator[tuple[str, ...]]:
        """Yield the captions of each image."""
        captions = iter(self.captions)
        for begin, end in pairwise(self.bounds):
            yield tuple(islice(captions, end - begin))


@runtime_checkable
class Images(Protocol):
    """Images or their features by index."""

    def __getitem__(self, index: int) -> Tensor | Features: ...


class CaptionDataset(Dataset[Example]):
    """Images (or their features) with ids of up to `captions_per_image` captions each.

    If there are more captions, or several `views` of the images, they are drawn for each epoch from the seed, the epoch
    and the image's index alone.

    Args:
        by_position: batches hold the positions of images in all views, one after the other, in place of their features.
    """

    def __init__(
        self,
        ids: PackedIds,
        views: Sequence[Images],
        captions_per_image: int,
        seed: int = 0,
        by_position: bool = False,
    ) -> None:
        self.ids = ids
        self.views = views
        self.captions_per_image = captions_per_image
        self.seed = seed
        self.by_position = by_position
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()  # the loader's workers must see it change

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose captions are drawn; the loader calls this."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        view = self.choose_view(index)
        return index, self.views[view][index], self.choose_captions(index)

    def __getitems__(self, indices: Sequence[int]) -> list[Example] | CaptionBatch:
        """Return a batch; features that are cached are read at once."""
        views = [self.choose_view(index) for index in indices]
        caches = [view for view in self.views if isinstance(view, FeatureCache)]
        if len(caches) < len(self.views):
            return [self[index] for index in indices]
        if self.by_position:
            images: Tensor | Features = torch.tensor([v * len(self) + i for v, i in zip(views, indices, strict=True)])
        else:
            images = take_from_views(caches, views, indices)
        return make_batch(indices, images, [self.choose_captions(index) for index in indices])

    def choose_view(self, index: int) -> int:
        """Return which view of an image this epoch shows."""
        return random.Random(f"view-{self.seed}-{int(self.epoch)}-{index}").randrange(len(self.views))

    def choose_captions(self, index: int) -> list[list[int] | None]:
        """Return the ids of an image's captions in this epoch; None stands for one that it does not have."""
        ids = self.ids[index]
        if len(ids) > self.captions_per_image:
            ids = random.Random(f"{self.seed}-{int(self.epoch)}-{index}").sample(ids, self.captions_per_image)
        return [*ids, *[None] * (self.captions_per_image - len(ids))]


def collate(examples: Sequence[Example] | CaptionBatch) -> CaptionBatch:
    """Stack images and pad captions, unless that is done."""
    if isinstance(examples, CaptionBatch):
        return examples
    index, images, captions = zip(*examples, strict=True)
    if isinstance(images[0], Features):
        return make_batch(index, Features(*(torch.stack(parts) for parts in zip(*images, strict=True))), captions)
    if images[0].is_floating_point():  # of any number of regions
        return make_batch(index, join_features([image.unsqueeze(0) for image in images]), captions)
    return make_batch(index, torch.stack(images), captions)


def make_batch(
    index: Sequence[int], images: Tensor | Features, captions: Sequence[list[list[int] | None]]
) -> CaptionBatch:
    """Return a batch of images, each with the same number of captions."""
    inputs, outputs = shift_targets([row for rows in captions for row in rows])
    shape = (-1, len(captions[0]))
    return CaptionBatch(torch.tensor(index), images, inputs.unflatten(0, shape), outputs.unflatten(0, shape))
