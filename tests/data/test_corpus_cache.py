import os
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from attendgen.data.corpus_cache import count_characters, encode_text
from attendgen.data.module import SPLITS
from attendgen.data.text_corpus import TextDataModule
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from helpers.errors import refusal

TEXT = "".join(random.Random(0).choices("abc é\n日🙂\ud800", k=500))


def test_characters_are_counted():
    assert count_characters([TEXT, "", "zz"]) == Counter(TEXT + "zz")


@pytest.mark.parametrize("tokens", ["abé🙂", "".join(map(chr, range(0x4E00, 0x4F00))) + "a日"])
@pytest.mark.parametrize("normalizer", ["none", "letters"])
def test_encode_text_equals_the_vocabulary(tokens, normalizer):
    vocabulary = Vocabulary(tokens, normalizer=normalizer)
    for text in (vocabulary.normalize(TEXT), ""):
        assert encode_text(text, vocabulary).tolist() == vocabulary.encode(text)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "novels"
    folder.mkdir()
    (folder / "a.txt").write_text("It was the best of times. " * 30)
    (folder / "b.txt").write_text("Ismaël, appelez-moi. " * 20)
    return folder


def module(root, cache: bool = True, **options) -> TextDataModule:
    options = {"context_len": 5, "seq_len": 7, "min_frequency": 1, **options}
    return TextDataModule(str(root), cache=str(root.parent / "cache") if cache else None, **options)


@pytest.mark.parametrize("stateful", [True, False])
def test_cached_texts_equal_the_encoded_texts(root, monkeypatch, stateful):
    fresh = module(root, cache=False, stateful=stateful)
    for attempt in range(2):
        cached = module(root, stateful=stateful)
        cached.setup("fit")
        for split in SPLITS:
            for one, two in zip(cached.dataset(split).texts, fresh.dataset(split).texts, strict=True):
                assert torch.equal(one, two)
        assert cached.vocabulary.tokens == fresh.vocabulary.tokens
        for one, two in zip(cached.train_dataloader(), fresh.train_dataloader(), strict=True):
            assert all(torch.equal(*parts) for parts in zip(one[:3], two[:3], strict=True))
        if not attempt:  # from now on no text may be read
            monkeypatch.setattr(
                "attendgen.data.text_corpus.read_text", lambda path: pytest.fail(f"{path} is read again")
            )


def test_texts_are_memory_mapped(root):
    data = module(root)
    data.setup("fit")
    (ids,) = (root.parent / "cache").glob("corpus-ids-*.npy")
    assert ids.stat().st_size < 128 + sum(path.stat().st_size for path in root.iterdir()) + 1
    first, *_ = data.dataset("train").texts
    before = first[0].item()
    first[0] = before + 1  # copy on write: the file stays as it is
    assert module(root).dataset("train").texts[0][0].item() == before


def test_changed_file_or_setting_is_encoded_again(root):
    assert sum(map(len, module(root).dataset("train").texts)) == sum(map(len, module(root).texts("train")))
    path = root / "a.txt"
    path.write_text("It was the worst of times! " * 30)
    os.utime(path, ns=(1, 1))
    for options in ({}, {"split_ratios": (1, 1, 1)}, {"normalizer": "lower"}):
        data = module(root, **options)
        data.setup("fit")
        found = [data.vocabulary.decode(text.tolist()) for text in data.dataset("val").texts]
        assert found == data.texts("val")


def test_cached_texts_too_short_for_a_window_are_refused(root):
    module(root).setup("fit")
    with pytest.raises(UserError, match=r"b\.txt: 420 characters are too few"):
        module(root, context_len=400).setup("fit")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_damaged_cache_is_made_again(root, content):
    def read() -> list[list[int]]:
        data = module(root)
        return [text.tolist() for text in data.dataset("train").texts]

    expected = read()
    for path in (root.parent / "cache").glob("corpus-*"):
        path.write_bytes(content)
    assert read() == expected


def test_the_space_of_encoded_texts_is_reserved(root, monkeypatch):
    data = module(root)
    data.build_vocabulary()
    monkeypatch.setattr("attendgen.utils.arrays.shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    assert "the encoded texts need" in refusal(data.dataset, "train")
    assert [path for path in (root.parent / "cache").iterdir() if path.suffix == ".npy"] == []
