import re

import numpy as np
import pytest
from PIL import Image

from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.captions.shapes import COLORS, SIZES, Shapes
from attendgen.data.captions.sources import CaptionSource
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.errors import UserError

COUNTS = {"train": 40, "val": 6, "test": 6}


def read_images(root, seed: int = 0, split: str = "train") -> dict[str, np.ndarray]:
    """Return the images of a split by name, as they are on disk."""
    return {row.image_id: np.asarray(Image.open(row.path)) for row in Shapes(str(root), seed, COUNTS)(split)}


def describe(image: np.ndarray) -> str:
    """Return the caption of one half from its pixels: extent, color and share of the bounding box."""
    background = image[0, 0]
    rows, columns = np.nonzero((image != background).any(-1))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height == width
    (size,) = (name for name, radius in SIZES.items() if width == 2 * radius + 1)
    colors = np.unique(image[rows, columns], axis=0)
    assert len(colors) == 1
    (color,) = (name for name, value in COLORS.items() if value == tuple(colors[0].tolist()))
    share = len(rows) / (width * height)
    shape = "square" if share == 1 else "circle" if share > 0.7 else "triangle"
    return f"a {size} {color} {shape}"


def test_same_seed_and_split_give_the_same_images(tmp_path):
    first, second = read_images(tmp_path / "a"), read_images(tmp_path / "b")
    assert len(first) == COUNTS["train"]
    assert first.keys() == second.keys()
    for name, image in first.items():
        np.testing.assert_array_equal(second[name], image)


@pytest.mark.parametrize("other", [{"split": "val"}, {"split": "test"}, {"seed": 1}])
def test_other_splits_and_seeds_give_other_images(tmp_path, other):
    known = {image.tobytes() for image in read_images(tmp_path).values()}
    assert len(known) > COUNTS["train"] // 2
    assert known.isdisjoint(image.tobytes() for image in read_images(tmp_path, **other).values())


def test_boxes_are_where_the_shapes_were_drawn(tmp_path):
    source = Shapes(str(tmp_path), 0, COUNTS)
    links = source.locate_words("train")
    for row in source("train"):
        image = np.asarray(Image.open(row.path))
        first, relation, second = re.split(" (left of|above) ", row.captions[0])
        axis = 1 if relation == "left of" else 0
        for half, phrase in enumerate((first, second)):
            shown = np.zeros(image.shape[:2], dtype=bool)
            part = np.s_[:, 32 * half : 32 * half + 32] if axis else np.s_[32 * half : 32 * half + 32]
            shown[part] = (image[part] != image[0, 0]).any(-1)
            rows, columns = np.nonzero(shown)
            box = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) / 64
            for word in phrase.split()[1:]:
                assert any(np.allclose(box, found) for found in links[row.image_id][word])
        assert not {"a", "left", "of", "above"} & links[row.image_id].keys()


def test_captions_describe_the_drawn_shapes(tmp_path):
    relations = set()
    for row in Shapes(str(tmp_path), 0, COUNTS)("train"):
        image = np.asarray(Image.open(row.path))
        (caption,) = row.captions
        first, relation, second = re.split(" (left of|above) ", caption)
        relations.add(relation)
        halves = np.split(image, 2, axis=1 if relation == "left of" else 0)
        assert [describe(half) for half in halves] == [first, second]
    assert relations == {"left of", "above"}


def test_second_call_draws_nothing(tmp_path):
    first = Shapes(str(tmp_path), 0, COUNTS)("val")
    before = {row.path: row.path.stat() for row in first}
    first[0].path.write_bytes(b"still here")
    assert Shapes(str(tmp_path), 0, COUNTS)("val") == first
    assert first[0].path.read_bytes() == b"still here"
    for path, stat in before.items():
        assert path.stat().st_ino == stat.st_ino
    assert [folder.name for folder in first[0].path.parents[1].iterdir()] == ["val"]  # no temporary folder is left


def test_other_counts_have_their_own_folder(tmp_path):
    few = Shapes(str(tmp_path), 0, COUNTS)("val")
    more = Shapes(str(tmp_path), 0, {**COUNTS, "val": 9})("val")
    assert (len(few), len(more)) == (COUNTS["val"], 9)
    assert all(row.path.is_file() for row in [*few, *more])


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.source\.counts: no split 'tset'; there are train, val, test"):
        Shapes(str(tmp_path), 0, COUNTS)("tset")


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/shapes-.*: cannot be written"):
        Shapes(str(tmp_path / "file"), 0, COUNTS)("val")


def test_caption_data_module_reads_shapes(tmp_path):
    assert isinstance(Shapes(str(tmp_path)), CaptionSource)
    data = CaptionDataModule(
        str(tmp_path), lambda root: Shapes(root, 0, COUNTS), SmallCNN((4,), 16), captions_per_image=1, min_frequency=1
    )
    data.setup("fit")
    words = {word for row in data.rows("train") for word in row.captions[0].split()}
    assert set(data.vocabulary.tokens) - set(data.vocabulary.specials) == words
    (batch,) = data.val_dataloader()
    assert batch.images.shape == (COUNTS["val"], 3, 16, 16)
    for index, outputs in zip(batch.index.tolist(), batch.outputs[:, 0].tolist(), strict=True):
        assert data.vocabulary.decode(outputs) == data.references("val")[index][0]
