"""Trained captioners: an image in, captions out."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from attendgen.data.captions.images import open_image, to_pixels, to_rgb
from attendgen.decoding.alternatives import find_alternatives
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import DecodingFunction
from attendgen.inference.base import BATCH, TrainedModel
from attendgen.inference.result import Result, make_results, to_cpu
from attendgen.layers.encoder import join_features
from attendgen.runs.run import Run
from attendgen.visualization.regions import locate_regions

HYPOTHESES = 2048  # that are decoded together on the CPU, and the samples of minimum Bayes risk beside them
ENCODED = 8  # images that an encoder on the CPU is given at once: more of them save no time, and need much memory


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
        if number not in self._retrievers:
            self._retrievers[number] = self.data.nearest_captions(number)
        return self._retrievers[number]

    def caption(self, image: str | Path | Image.Image, alternatives: int = 0, **options: Any) -> list[Result]:
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
        images: Iterable[str | Path | Image.Image],
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
        while pixels := [self._open(image) for image in itertools.islice(waiting, size)]:
            yield from self._caption_batch(torch.stack(pixels).to(self.device), decoding, alternatives)

    def _choose_batch_size(self, decoding: DecodingConfig | DecodingFunction) -> int:
        if self.device.type != "cpu" or not isinstance(decoding, DecodingConfig):
            return BATCH
        hypotheses = max(decoding.beam_size, decoding.n_best) + decoding.mbr_samples
        return max(1, min(BATCH, HYPOTHESES // hypotheses))

    def _open(self, image: str | Path | Image.Image) -> UInt8[Tensor, "3 size size"]:
        opened = to_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        return to_pixels(opened, self.model.encoder.size)

    @torch.inference_mode()
    def _caption_batch(
        self, pixels: UInt8[Tensor, "batch 3 size size"], decoding: DecodingConfig | DecodingFunction, alternatives: int
    ) -> list[list[Result]]:
        parts = pixels.split(ENCODED if pixels.device.type == "cpu" else len(pixels))
        features = join_features([self.model.encode_images(part) for part in parts])
        number = getattr(decoding, "retrieval_captions", 0)
        retrieved = self.get_retriever(number)(features) if number else None
        memory, state = self.model.encode(features)
        suppressed = self.vocabulary.suppressed()
        decoded = to_cpu(decode(self.model, memory, state, decoding, suppressed, retrieved=retrieved))
        likeliest = find_alternatives(self.model, memory, state, decoded.tokens, alternatives, suppressed)
        return [
            [
                replace(result, regions=regions)
                for result in make_results(decoded, row, self.vocabulary, alternatives=likeliest)
            ]
            for row, regions in enumerate(locate_regions(self.model.encoder, pixels))
        ]
