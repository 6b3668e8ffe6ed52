"""Trained captioners: an image in, captions out."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from attendgen.data.captions.images import open_image, to_pixels, to_rgb
from attendgen.data.captions.precomputed import is_feature_file, read_features, require_dim
from attendgen.decoding.alternatives import find_alternatives
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import DecodingFunction
from attendgen.inference.base import BATCH, TrainedModel
from attendgen.inference.result import Result, make_results, to_cpu
from attendgen.layers.encoder import Features, join_features
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.visualization.regions import locate_regions

HYPOTHESES = 2048  # that are decoded together on the CPU, and the samples of minimum Bayes risk beside them
ENCODED = 8  # images that an encoder on the CPU is given at once: more of them save no time, and need much memory


# a file of an image or of its features, or an image or its features [regions, dim] in memory
ImageInput = str | Path | Image.Image | Tensor


class ImageCaptioner(TrainedModel):
    """A trained captioner."""

    def __init__(self, run: Run, model: Any) -> None:
        super().__init__(run, model)
        self._retrievers: dict[int, Any] = {}  # by their number of images

    @functools.cached_property
    def data(self) -> Any:
        """The data module of the run, whose training images captions are retrieved from."""
        from attendgen.data.module import open_data

        return open_data(self.run.config.data, self.vocabulary, self.model.encoder)

    def get_retriever(self, number: int) -> Any:
        """Return an index of the captions of the run's training images.

        Args:
            number: of similar images whose captions it finds.

        Raises:
            UserError: the data is not where the run's config says, or there are fewer images.
        """
        from attendgen.data.module import advise_root

        if number not in self._retrievers:
            with advise_root(self.run.config.data, "--data DIR"):
                self._retrievers[number] = self.data.nearest_captions(number)
        return self._retrievers[number]

    def caption(self, image: ImageInput, alternatives: int = 0, **options: Any) -> list[Result]:
        """Return the captions of an image of any size and mode, best first.

        Args:
            alternatives: how many of the likeliest words at each step each result keeps; they cost one more pass over
                the captions.
            options: those of `DecodingConfig`.

        Raises:
            UserError: the file is missing or not an image, or an option is wrong.
        """
        return next(self.caption_all([image], alternatives=alternatives, **options))

    def caption_all(
        self,
        images: Iterable[ImageInput],
        batch_size: int | None = None,
        alternatives: int = 0,
        **options: Any,
    ) -> Iterator[list[Result]]:
        """Yield the captions of each of many images, see `caption`.

        Args:
            batch_size: images opened and decoded together; 64 unless given, fewer for many hypotheses on a CPU.
            alternatives, options: see `caption`.

        Raises:
            UserError: a file is missing or not an image, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        waiting, size = iter(images), batch_size or self._choose_batch_size(decoding)
        while opened := [self._open(image) for image in itertools.islice(waiting, size)]:
            yield from self._caption_batch(self._join(opened), decoding, alternatives)

    def _join(self, images: Sequence[Tensor]) -> Tensor | Features:
        """Return a batch of pixels, or of features, on the model's device.

        Raises:
            UserError: there are both.
        """
        if len({image.dtype for image in images}) > 1:
            raise UserError("caption: images and files of features cannot be mixed; caption them one after the other")
        if not images[0].is_floating_point():
            return torch.stack(list(images)).to(self.device)
        joined = join_features([image.unsqueeze(0) for image in images])
        return joined.to(self.device) if isinstance(joined, Tensor) else Features(*(p.to(self.device) for p in joined))

    def _encode_images(self, images: Tensor | Features) -> Float[Tensor, "batch regions dim"] | Features:
        """Return the features of a batch; on a CPU, few images are encoded at once."""
        if not isinstance(images, Tensor) or images.is_floating_point():
            return images
        parts = images.split(ENCODED if images.device.type == "cpu" else len(images))
        return join_features([self.model.encode_images(part) for part in parts])

    def _choose_batch_size(self, decoding: DecodingConfig | DecodingFunction) -> int:
        if self.device.type != "cpu" or not isinstance(decoding, DecodingConfig):
            return BATCH
        hypotheses = max(decoding.beam_size, decoding.n_best) + decoding.mbr_samples
        return max(1, min(BATCH, HYPOTHESES // hypotheses))

    def _open(self, image: ImageInput) -> UInt8[Tensor, "3 size size"] | Float[Tensor, "regions dim"]:
        if isinstance(image, str | Path) and is_feature_file(Path(image)):
            image = read_features(Path(image))
        if isinstance(image, Tensor):
            require_dim("features", image, self.model.encoder.dim)
            return image
        self.require_images(image)
        opened = to_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        return to_pixels(opened, self.model.encoder.size)

    def require_images(self, name: object) -> None:
        """Check that the model reads images.

        Args:
            name: of the image, for the message.

        Raises:
            UserError: it reads features.
        """
        if getattr(self.model.encoder, "reads_features", False):
            raise UserError(f"{name}: an image; this model reads features from .npy and .npz files")

    @torch.inference_mode()
    def _caption_batch(
        self, images: Tensor | Features, decoding: DecodingConfig | DecodingFunction, alternatives: int
    ) -> list[list[Result]]:
        features = self._encode_images(images)
        number = getattr(decoding, "retrieval_captions", 0)
        retrieved = self.get_retriever(number)(features) if number else None
        memory, state = self.model.encode(features)
        suppressed = self.vocabulary.suppressed()
        graphs = self.graphs
        decoded = to_cpu(decode(self.model, memory, state, decoding, suppressed, retrieved=retrieved, graphs=graphs))
        likeliest = find_alternatives(self.model, memory, state, decoded.tokens, alternatives, suppressed)
        is_pixels = isinstance(images, Tensor) and not images.is_floating_point()
        places = locate_regions(self.model.encoder, images) if is_pixels else [None] * len(decoded.tokens)
        return [
            [
                replace(result, regions=regions)
                for result in make_results(decoded, row, self.vocabulary, alternatives=likeliest)
            ]
            for row, regions in enumerate(places)
        ]
