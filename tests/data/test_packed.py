"""What is packed comes out as it went in."""

import gc
import pickle
import random
from pathlib import Path

import pytest

from attendgen.data.captions.dataset import CaptionedRows
from attendgen.data.captions.sources import CaptionedImage
from attendgen.data.packed import PackedIds, PackedStrings, without_collection

TEXTS = ["a dog", "", "chien été", "\N{HORSE FACE} runs", "lone \ud800 half", "x" * 1000]


def assert_same(packed, items):
    assert len(packed) == len(items)
    assert list(packed) == items
    assert packed[1:4] == items[1:4]
    assert packed[::-2] == items[::-2]
    assert [packed[i] for i in range(-len(items), len(items))] == items + items
    for index in (len(items), -len(items) - 1):
        with pytest.raises(IndexError):
            packed[index]


def test_strings():
    assert_same(PackedStrings(TEXTS), TEXTS)
    assert_same(pickle.loads(pickle.dumps(PackedStrings(iter(TEXTS)))), TEXTS)  # as a loader's workers get them
    assert not list(PackedStrings([]))


def test_groups_of_ids():
    chance = random.Random(0)
    groups = [
        [[chance.randrange(40_000) for _ in range(chance.randrange(6))] for _ in range(chance.randint(1, 5))]
        for _ in range(50)
    ]
    packed = PackedIds(iter(groups))
    assert_same(packed, groups)
    assert_same(pickle.loads(pickle.dumps(packed)), groups)
    assert packed.longest() == [max(len(part) for part in group) for group in groups]
    assert_same(PackedIds([[], [[1]], [], []]), [[], [[1]], [], []])
    assert PackedIds([]).longest() == []


@pytest.mark.parametrize("ids", [[3, 2**40, 1], ["c.jpg", "a.jpg", "b.jpg"], [7, "b.jpg", 9]])
def test_captioned_pictures(ids):
    folders = [Path("/data/one"), Path("/data/two"), Path("three")]
    rows = [
        CaptionedImage(key, folder / f"{key}é.jpg", tuple(TEXTS[:n]))
        for key, folder, n in zip(ids, folders, (2, 1, 4), strict=True)
    ]
    packed = CaptionedRows(rows)
    assert_same(packed, rows)
    assert packed.paths() == [row.path for row in rows]
    assert list(packed.references()) == [row.captions for row in rows]
    assert list(packed.image_ids) == ids


def test_the_collector_goes_on_afterwards():
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), without_collection():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
