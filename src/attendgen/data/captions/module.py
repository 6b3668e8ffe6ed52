"""The data module of captioned images."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from attendgen.data.batch import CaptionBatch
from attendgen.data.captions.checks import find_broken
from attendgen.data.captions.dataset import CaptionDataset, CaptionedImages, Images, collate
from attendgen.data.captions.features import (
    FeatureCache,
    PixelData,
    cache_features,
    find_missing,
    to_single,
)
from attendgen.data.captions.nearest import NearestCaptions
from attendgen.data.captions.precomputed import FeatureStore, StoredFeatures
from attendgen.data.captions.resident import ResidentFeatures
from attendgen.data.captions.sources import CaptionedImage, CaptionSource, ImageId
from attendgen.data.loader import BatchSizes, make_bucket_loader, require_positive
from attendgen.data.module import BaseDataModule, canonical_split
from attendgen.data.packed import PackedIds, without_garbage_collection
from attendgen.data.workers import require_workers
from attendgen.layers.encoder import ImageEncoder
from attendgen.text.levels import make_tokenizer
from attendgen.text.protocol import Tokenizer, VocabularyProtocol
from attendgen.text.tokenizers import LevelTokenizer
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError, format_some

log = logging.getLogger(__name__)


class CaptionDataModule(BaseDataModule[VocabularyProtocol]):
    """Captioned images for training, validation and test; the vocabulary comes from the training captions alone.

    Args:
        root: folder of the data set.
        source: makes the reader of the splits from `root`.
        encoder: gives the image size and, if it is frozen, the features to cache; `connect` sets it to the model's.
        features: a folder of features per image, or one array, in place of images; see `FeatureStore`.
        cache: folder of the feature cache; None delivers pixels, as an encoder that is trained needs.
        batch_size: images per batch.
        eval_batch_size: images in an evaluation; `batch_size` unless given.
        global_batch_size: images of a training step, over all devices and accumulated batches, in place of
            `batch_size`.
        captions_per_image: captions per image and epoch: drawn at random in training, else the first.
        augmented_views: versions of each training image, one of which is drawn in each epoch: the image itself, its
            mirror image, and crops of it (`images.augment`).
        max_length: longer training captions are truncated to this many tokens; their number is logged.
        min_frequency: rarer words, or the rarer characters of subwords, become <unk>.
        level: "caption" (lower-case words), "bpe" or "unigram".
        vocab_size: number of subwords, special tokens included.
        tokenizer: one of the user's own, in place of the level's; it splits captions without punctuation.
        max_samples: use only the first images of each split (for tests).
        skip_bad: leave out images that are missing or cannot be read; the source leaves out unusable rows.
        encoding: of the source's files, which reads it from here; None is UTF-8.
        workers: processes that read batches, or "auto", see `attendgen.data.loader.choose_workers`.
        resident: keep the cached features in the memory of the device on which the model is trained.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        root: str,
        source: Callable[[str], CaptionSource],
        encoder: ImageEncoder | None = None,
        cache: str | None = None,
        batch_size: int = 32,
        captions_per_image: int = 5,
        augmented_views: int = 1,
        max_length: int = 25,
        min_frequency: int = 5,
        workers: int | str = 0,
        seed: int = 0,
        max_samples: int | None = None,
        skip_bad: bool = False,
        encoding: str | None = None,
        level: str = "caption",
        vocab_size: int | None = None,
        tokenizer: Tokenizer | None = None,
        eval_batch_size: int | None = None,
        global_batch_size: int | None = None,
        resident: bool = False,
        features: str | None = None,
    ) -> None:
        super().__init__()
        require_positive(captions_per_image=captions_per_image, augmented_views=augmented_views, max_length=max_length)
        if max_samples is not None:
            require_positive(max_samples=max_samples)
        self.source = source(root)
        self.encoder = encoder
        self.cache = cache
        self.sizes = BatchSizes(batch_size, eval_batch_size, global_batch_size)
        self.captions_per_image = captions_per_image
        self.augmented_views = augmented_views
        self.max_length = max_length
        self.min_frequency = min_frequency
        self.tokenizer = make_tokenizer(level, vocab_size, tokenizer, min_frequency, levels=("caption",))
        self.workers = workers
        self.seed = seed
        self.max_samples = max_samples
        self.skip_bad = skip_bad
        self.encoding = encoding
        self.store = None if features is None else FeatureStore(Path(features))
        self.splits: dict[str, CaptionedImages] = {}
        self.resident = resident
        self.sets: dict[str, CaptionDataset] = {}
        self.features: dict[str, ResidentFeatures] = {}  # of the splits that have been read, if they are resident
        self.nearest: NearestCaptions | None = None  # made when it is first needed

    def connect(self, vocabulary: VocabularyProtocol, encoder: ImageEncoder | None = None) -> None:
        """Receive the vocabulary, and the encoder whose image size and features are used."""
        super().connect(vocabulary)
        self.encoder = encoder or self.encoder

    @without_garbage_collection()
    def rows(self, split: str) -> CaptionedImages:
        """Return a split's images and references.

        Raises:
            UserError: an annotation file is broken, or images are missing.
        """
        split = canonical_split(split)
        if split not in self.splits:
            rows = self.source(split)[: self.max_samples]
            if self.store is not None:
                rows = self._leave_out(rows, self.store.find_missing, f"images without features in {self.store.source}")
            else:
                rows = self._leave_out(rows, find_missing, "annotated images missing")
            if self.skip_bad:
                find = self._find_broken if self.store is None else self.store.find_broken
                rows = self._leave_out(rows, find, "images that cannot be read")
            self.splits[split] = CaptionedImages(rows)
        return self.splits[split]

    def _leave_out(
        self, rows: list[CaptionedImage], find: Callable[[list[Path]], list[Path]], what: str
    ) -> list[CaptionedImage]:
        """Return the rows without the images that `find` returns; without `skip_bad` there may be none."""
        images = set(find([row.path for row in rows]))
        if not images:
            return rows
        folder = os.path.commonpath([path.parent for path in images]) or "."
        names = sorted(str(path.relative_to(folder)) for path in images)
        message = f"{folder}: {len(names)} {what}: {format_some(names)}"
        kept = [row for row in rows if row.path not in images]
        if not self.skip_bad or not kept:
            raise UserError(f"{message}; data.skip_bad=true leaves them out" if kept else message)
        log.warning("%s; they are left out", message)
        return kept

    def _find_broken(self, images: list[Path]) -> list[Path]:
        return find_broken(images, Path(self.cache) if self.cache else None)

    @without_garbage_collection()
    def build_vocabulary(self) -> VocabularyProtocol:
        """Build the vocabulary of the training captions."""
        # other tokens than words are those of the caption's words, too: what is scored has no punctuation
        normalizer = "lower" if isinstance(self.tokenizer, LevelTokenizer) else "caption"
        captions = self.rows("train").captions
        self.vocabulary = Vocabulary.build(
            captions, normalizer=normalizer, min_frequency=self.min_frequency, tokenizer=self.tokenizer
        )
        return self.vocabulary

    def prepare_data(self) -> None:
        """Fill the feature cache in one process alone, before the others open it."""
        self.setup(self.trainer.state.fn if self.trainer else None)

    @without_garbage_collection()
    def dataset(self, split: str) -> CaptionDataset:
        """Return a split's examples."""
        split = canonical_split(split)
        if split not in self.sets:
            ids = self.encode_captions(split, self.require_vocabulary())
            paths = self.rows(split).paths()
            count = self.augmented_views if split == "train" else 1
            views = [self.images(paths, view) for view in range(count)]
            self.sets[split] = CaptionDataset(ids, views, self.captions_per_image, self.seed, self.resident)
        return self.sets[split]

    def encode_captions(self, split: str, vocabulary: VocabularyProtocol) -> PackedIds:
        """Return the ids of each image's captions; the number of truncated training captions is logged."""
        truncated = 0

        def encode(caption: str) -> list[int]:
            nonlocal truncated
            ids = vocabulary.encode(caption)
            if split == "train" and len(ids) > self.max_length:
                truncated += 1
                ids = ids[: self.max_length]
            return ids

        most = None if split == "train" else self.captions_per_image  # every evaluation scores the same captions
        references = self.rows(split).references()
        ids = PackedIds([encode(caption) for caption in captions[:most]] for captions in references)
        if truncated:
            log.info("%d training captions truncated to %d tokens", truncated, self.max_length)
        return ids

    def images(self, paths: Sequence[Path], view: int = 0) -> Images:
        """Return the cached features of one view of some images, or its pixels.

        Raises:
            UserError: features of an encoder that is trained are to be cached, or an image is missing or broken.
        """
        assert self.encoder is not None
        if self.store is not None:
            if self.resident or view:
                field = "data.resident=true" if self.resident else f"data.augmented_views={self.augmented_views}"
                raise UserError(f"{field}: not with data.features; leave it out")
            return StoredFeatures(self.store, paths, self.encoder.dim)
        if getattr(self.encoder, "reads_features", False):
            raise UserError("model/encoder=precomputed: reads no images; give data.features=FOLDER")
        if self.cache is None and self.resident:
            raise UserError("data.resident=true: needs cached features; set data.cache=DIR")
        if self.cache is None:
            return PixelData(paths, self.encoder.size, view)
        if not self.encoder.frozen:
            raise UserError(
                "model.encoder.freeze=false or .unfreeze_stages above 0: features of an encoder that is trained cannot "
                "be cached; set data.cache=null"
            )
        require_workers(self.workers)
        return cache_features(self.encoder, paths, Path(self.cache), workers=self.workers, view=view)

    def nearest_captions(self, number: int) -> NearestCaptions:
        """Return an index that finds the captions of the `number` training images most similar to an image.

        Raises:
            UserError: features are not cached, there are fewer training images, or the training images themselves are
                to be captioned.
        """
        option = f"decoding.retrieval_captions={number}"
        if self.eval_split == "train":
            raise UserError(f"{option}: a training image finds itself; choose another split")
        paths = self.rows("train").paths()
        if number > len(paths):
            raise UserError(f"{option}: there are {len(paths)} training images; give a smaller number")
        images = self.images(paths)
        if not isinstance(images, FeatureCache | StoredFeatures):
            raise UserError(f"{option}: needs cached features; set data.cache=DIR")
        if self.nearest is None:
            self.nearest = NearestCaptions(images.means(), self.encode_captions("train", self.require_vocabulary()))
        return self.nearest.limit(number)

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return the raw captions of each image, by index."""
        return dict(enumerate(self.rows(split).references()))

    def inputs(self, split: str) -> list[ImageId]:
        """Return each image's name in results files: Flickr's file name, COCO's number."""
        return list(self.rows(split).image_ids)

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return batches of a split: shuffled buckets, or every image once in order of length."""
        data = self.dataset(split)
        lengths = data.ids.max_lengths()
        workers = 0 if self.resident else self.workers  # only captions are read then
        return make_bucket_loader(self, data, lengths, collate, self.sizes, shuffle, workers, self.seed)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002  # Lightning's
        """Return a batch whose features are on the device in single precision."""
        if not isinstance(batch, CaptionBatch):
            return batch
        images = batch.images
        if self.resident and isinstance(images, Tensor):
            training = self.trainer is not None and self.trainer.training
            images = self.get_resident("train" if training else self.eval_split, images.device).take(images)
        return batch._replace(images=to_single(images))

    def get_resident(self, split: str, device: torch.device) -> ResidentFeatures:
        """Return the features of a split in the memory of a device."""
        if split not in self.features:
            caches = [view for view in self.dataset(split).views if isinstance(view, FeatureCache)]
            self.features[split] = ResidentFeatures(caches, device)
        return self.features[split]
