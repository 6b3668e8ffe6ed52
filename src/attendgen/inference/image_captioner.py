"""Trained captioners: an image in, captions out."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attendgen.data.captions.images import open_image, to_pixels, to_rgb
from attendgen.decoding.decode import decode
from attendgen.inference.base import TrainedModel
from attendgen.inference.result import Result, make_results
from attendgen.runs.run import Run
from attendgen.visualization.regions import locate_regions


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

    @torch.inference_mode()
    def caption(self, image: str | Path | Image.Image, **options: Any) -> list[Result]:
        """Return the captions of an image of any size and mode, best first; `options` are those of `DecodingConfig`.

        Raises:
            UserError: the file is missing or not an image, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        opened = to_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        pixels = to_pixels(opened, self.model.encoder.size).unsqueeze(0).to(self.device)
        features = self.model.encode_images(pixels)
        number = getattr(decoding, "retrieval_captions", 0)
        retrieved = self.get_retriever(number)(features) if number else None
        memory, state = self.model.encode(features)
        decoded = decode(self.model, memory, state, decoding, self.vocabulary.suppressed(), retrieved=retrieved)
        (regions,) = locate_regions(self.model.encoder, pixels)
        return [replace(result, regions=regions) for result in make_results(decoded, 0, self.vocabulary)]
