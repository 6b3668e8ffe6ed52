"""A captioner captions images from files and from memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attendgen.data.captions.images import open_image
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from helpers import tiny_data
from helpers.errors import refusal
from helpers.runs import SharedRuns


@pytest.fixture
def captioner(runs: SharedRuns) -> ImageCaptioner:
    model = load(runs("flickr8k_soft"))
    assert isinstance(model, ImageCaptioner)
    return model


def test_path_and_opened_image_give_the_same_caption(captioner: ImageCaptioner, tmp_path: Path) -> None:
    path = tiny_data.image(tmp_path / "red.png", "red")
    found = [captioner.caption(image, max_length=6)[0] for image in (path, str(path), open_image(path))]
    assert len({result.text for result in found}) == 1
    for result in found[1:]:
        np.testing.assert_array_equal(result.log_probs, found[0].log_probs)


def test_results_are_ranked_and_attend_to_the_regions(captioner: ImageCaptioner) -> None:
    found = captioner.caption(Image.new("RGB", (50, 40), "red"), beam_size=4, n_best=3, max_length=6)
    assert len({result.text for result in found}) == 3
    assert [result.score for result in found] == sorted((result.score for result in found), reverse=True)
    for result in found:
        assert result.attention.shape == (len(result.tokens), 4)  # 2x2 regions
        np.testing.assert_allclose(result.attention.sum(axis=1), 1.0, rtol=1e-4)
        assert result.score == pytest.approx(result.log_probs.sum(), abs=1e-4)
        assert result.source == []


def test_images_in_batches_have_the_captions_of_each_alone(captioner: ImageCaptioner) -> None:
    sizes = [(50, 40), (8, 8), (30, 90), (200, 10), (16, 16)]
    images = [Image.effect_noise(size, 90).convert("RGB") for size in sizes]
    for options in ({"max_length": 6}, {"beam_size": 3, "n_best": 2, "max_length": 6}, {"temperature": 1.0, "seed": 3}):
        together = list(captioner.caption_all(images, batch_size=2, **options))
        for image, results in zip(images, together, strict=True):
            alone = captioner.caption(image, **options)
            assert [result.text for result in results] == [result.text for result in alone]
            for one, other in zip(results, alone, strict=True):
                np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
                np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
                assert one.regions == other.regions


def test_images_are_opened_as_they_are_needed(captioner: ImageCaptioner) -> None:
    opened: list[int] = []

    def open_images() -> Iterator[Image.Image]:
        for number in range(7):
            opened.append(number)
            yield Image.new("RGB", (9, 9), "red")

    captions = captioner.caption_all(open_images(), batch_size=3, max_length=3)
    next(captions)
    assert len(opened) == 3
    assert len(list(captions)) == 6


def test_retrieval_reads_the_training_captions_once(captioner: ImageCaptioner) -> None:
    options = {"beam_size": 4, "retrieval_captions": 2, "max_length": 6}
    first = captioner.caption(Image.new("RGB", (50, 40), "red"), **options)[0]
    nearest = captioner.get_retriever(2)
    assert captioner.get_retriever(2) is nearest
    fewer = captioner.get_retriever(1)
    assert fewer.directions is nearest.directions, "one data module and one index serve every number of images"
    features = torch.randn(3, 4, nearest.directions.size(1))
    assert fewer.find(features).tolist() == nearest.find(features)[:, :1].tolist()
    assert captioner.caption(Image.new("RGB", (50, 40), "red"), **options)[0].text == first.text
    assert "training images" in refusal(captioner.get_retriever, 99)


def test_file_that_is_not_an_image_is_refused(captioner: ImageCaptioner, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("text")
    assert "note.jpg" in refusal(captioner.caption, tmp_path / "note.jpg")
    assert "none.jpg" in refusal(captioner.caption, tmp_path / "none.jpg")
