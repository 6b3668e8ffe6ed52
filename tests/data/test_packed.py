"""Packed values equal the values that were packed."""

import gc
import pickle
import random

import pytest

from attendgen.data.packed import PackedIds, PackedStrings, without_garbage_collection

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


def test_strings_equal_the_packed_strings():
    assert_same(PackedStrings(TEXTS), TEXTS)
    assert_same(pickle.loads(pickle.dumps(PackedStrings(iter(TEXTS)))), TEXTS)  # as workers receive them
    assert not list(PackedStrings([]))


def test_ids_equal_the_packed_ids():
    chance = random.Random(0)
    groups = [
        [[chance.randrange(40_000) for _ in range(chance.randrange(6))] for _ in range(chance.randint(1, 5))]
        for _ in range(50)
    ]
    packed = PackedIds(iter(groups))
    assert_same(packed, groups)
    assert_same(pickle.loads(pickle.dumps(packed)), groups)
    assert packed.max_lengths() == [max(len(part) for part in group) for group in groups]
    assert_same(PackedIds([[], [[1]], [], []]), [[], [[1]], [], []])
    assert PackedIds([]).max_lengths() == []


def test_garbage_collection_resumes_afterwards():
    with without_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), without_garbage_collection():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
