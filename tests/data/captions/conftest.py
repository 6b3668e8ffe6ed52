"""Caption data sets and a frozen encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attendgen.data.captions.flickr import Flickr8k
from attendgen.data.captions.module import CaptionDataModule
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from helpers.caption_sets import make_coco, make_flickr8k, make_karpathy, paint

SIZE = 16


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    return make_flickr8k(tmp_path / "flickr8k")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return make_coco(tmp_path / "coco")


@pytest.fixture
def karpathy(tmp_path: Path) -> Path:
    return make_karpathy(tmp_path / "karpathy")


@pytest.fixture
def encoder() -> GridEncoder:
    """An encoder of 16x16 pixels and 8x8 regions."""
    return SmallCNN(channels=(4,), size=SIZE, freeze=True)


@pytest.fixture
def make_data(encoder: GridEncoder) -> Callable[..., CaptionDataModule]:
    """Make a data module of a data set: `make_data(flickr, Flickr8k, cache="folder")`."""

    def make(root: Path, source: Any = Flickr8k, **options: Any) -> CaptionDataModule:
        return CaptionDataModule(str(root), source, encoder, **{"min_frequency": 1, **options})

    return make


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Twenty images of random pixels."""
    return paint(tmp_path / "images", [f"{i:02}.png" for i in range(20)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a feature cache, not made yet."""
    return tmp_path / "cache"
