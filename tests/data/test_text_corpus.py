import random
from collections import Counter

import pytest
import torch

from attendgen.data.module import SPLITS
from attendgen.data.text_corpus import TextDataModule, find_text_files, require_split_ratios, split_text
from attendgen.utils.special_tokens import PAD
from helpers.errors import refusal

CONTEXT, SEQ_LEN = 7, 5


def corpus(length: int, seed: int = 0, letters: str = "abcdefgh é.\n") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "novels"
    folder.mkdir()
    for seed, length in enumerate((400, 1003)):
        (folder / f"{seed}.txt").write_text(corpus(length, seed), encoding="utf-8")
    return folder


def module(root, **options) -> TextDataModule:
    return TextDataModule(str(root), **{"context_len": CONTEXT, "seq_len": SEQ_LEN, "min_frequency": 1, **options})


@pytest.mark.parametrize("length", [1, 19, 20, 1003])
@pytest.mark.parametrize("ratios", [(90, 5, 5), (0.9, 0.05, 0.05), (1, 1, 1)])
def test_parts_are_contiguous_and_have_their_ratios(length, ratios):
    text = corpus(length)
    parts = split_text(text, ratios)
    assert list(parts) == list(SPLITS)
    assert "".join(parts.values()) == text
    for part, ratio in zip(parts.values(), ratios, strict=True):
        assert len(part) == pytest.approx(length * ratio / sum(ratios), abs=1)


def test_each_file_is_split_separately(root):
    data = module(root)
    for number, path in enumerate(sorted(root.iterdir())):
        text = path.read_text(encoding="utf-8")
        parts = [data.texts(split)[number] for split in SPLITS]
        assert "".join(parts) == text
        assert [len(part) / len(text) for part in parts] == pytest.approx([0.9, 0.05, 0.05], abs=1 / len(text))
    assert data.texts("dev") == data.texts("val")


def test_text_files_are_found_whatever_the_case_of_their_endings(tmp_path):
    for name in ("b.txt", "A.TXT", "c.Txt", "d.md"):
        (tmp_path / name).write_text("text")
    assert [path.name for path in find_text_files(tmp_path)] == ["A.TXT", "b.txt", "c.Txt"]


def test_link_to_a_file_that_is_gone_is_named(tmp_path):
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    for cache in (None, str(tmp_path / "cache")):
        message = refusal(module(tmp_path, cache=cache).build_vocabulary)
        assert message.startswith(f"{tmp_path / 'gone.txt'}: No such file")


@pytest.mark.parametrize("ratios", [[90, 5], [1, 0, 0], ["a", "b", "c"], "955", 5, [1, 1, float("nan")]])
def test_shares_that_are_not_three_positive_numbers_are_refused(ratios):
    assert refusal(require_split_ratios, ratios).startswith(f"data.split_ratios={ratios}: give three positive numbers")


@pytest.mark.parametrize(
    ("name", "value"), [("split_ratios", [90, 5]), ("context_len", -3), ("short_context_prob", 7.0)]
)
def test_settings_out_of_range_are_named(tmp_path, name, value):
    assert refusal(module, tmp_path, **{name: value}).startswith(f"data.{name}={value}: ")


def test_evaluation_predicts_every_character_once(root):
    data = module(root, batch_size=4)
    data.setup("validate")
    outputs = [row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs]
    assert data.vocabulary.decode(torch.cat(outputs).tolist()) == "".join(data.texts("val"))


def test_training_batches_have_the_configured_shapes(root):
    data = module(root, batch_size=4, short_context_prob=0.0)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    assert Counter(batch.outputs.shape for batch in batches).most_common(1)[0][0] == (4, SEQ_LEN)
    assert Counter(batch.context.shape for batch in batches).most_common(1)[0][0] == (4, CONTEXT)


def test_vocabulary_is_of_the_training_part_alone(tmp_path):
    text = corpus(900, letters="abc") + "ß" * 100
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    data = module(tmp_path / "x.txt")
    data.setup("fit")
    assert set(data.vocabulary.tokens) - set(data.vocabulary.specials) == set("abc")
    (ids,) = data.dataset("val").texts
    assert (ids == data.vocabulary.unknown).all()


def test_rare_characters_become_unknown(tmp_path):
    (tmp_path / "x.txt").write_text("qqjjj" + corpus(1000), encoding="utf-8")
    vocabulary = module(tmp_path, min_frequency=3).build_vocabulary()
    assert "j" in vocabulary.ids
    assert "q" not in vocabulary.ids


@pytest.mark.parametrize(
    ("before", "line_end"), [(b"\xef\xbb\xbf", "\n"), (b"", "\r\n"), (b"\xef\xbb\xbf", "\r\n"), (b"", "\r")]
)
def test_line_ends_and_byte_order_marks_do_not_matter(root, tmp_path, before, line_end):
    other = tmp_path / "other"
    other.mkdir()
    for path in root.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "\n" in text
        (other / path.name).write_bytes(before + text.replace("\n", line_end).encode())
    for split in SPLITS:
        assert module(other).texts(split) == module(root).texts(split)


def test_root_is_a_file_or_a_folder(root):
    (root / "notes.md").write_text("not a novel")
    first, second = find_text_files(root)
    assert (first.name, second.name) == ("0.txt", "1.txt")
    assert find_text_files(str(second)) == [second]


def test_text_shorter_than_one_window_is_refused(root):
    path = root / "2.txt"
    needed = CONTEXT + SEQ_LEN + 1
    length = needed  # of which the training part has but nine tenths
    path.write_text("a" * length)
    message = refusal(lambda: module(root).texts("train"))
    assert message.startswith(f"{path}: {length} characters are too few")
    assert f"one window needs {needed}" in message
    path.write_text("a" * 2 * needed)
    assert len(module(root).texts("train")) == 3


@pytest.mark.parametrize("text", ["", "日本語。" * 100])
def test_text_without_characters_after_normalization_is_refused(root, text):
    path = root / "2.txt"
    path.write_text(text, encoding="utf-8")
    message = refusal(lambda: module(root, normalizer="letters").setup("fit"))
    assert message.startswith(f"{path}: 0 characters")


def test_empty_part_is_refused(root):
    (root / "2.txt").write_text("a" * 20)
    message = refusal(lambda: module(root, split_ratios=(98, 1, 1)).texts("val"))
    assert message.startswith(f"{root / '2.txt'}: the val part is empty")


@pytest.mark.parametrize("ratios", [(90, 10), (90, 10, 0), (90, 20, -10)])
def test_split_ratios_are_three_positive_numbers(root, ratios):
    assert "data.split_ratios=" in refusal(lambda: module(root, split_ratios=ratios).texts("train"))


def test_file_in_another_encoding_is_refused(root):
    path = root / "2.txt"
    path.write_bytes(b"first\nsecond\nd\xe9j\xe0 vu\n" * 100)
    assert refusal(lambda: module(root).texts("train")).startswith(f"{path}: line 3: not UTF-8")


def test_empty_or_missing_folder_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        assert refusal(lambda folder=folder: module(folder).texts("train")).startswith(f"{folder}: no .txt file")


def test_unknown_split_is_refused(root):
    assert "'tset'" in refusal(lambda: module(root).texts("tset"))


def test_read_files_makes_a_split_and_counts_unknown_characters(root, tmp_path):
    texts = ("abc ßß é", "Ωa\n")
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_text(text, encoding="utf-8")
    data = module(root, batch_size=2)
    data.read_files(paths)
    assert data.count_inputs("text") == {"characters": 11, "unknown_characters": 3}
    data.eval_split = "text"
    outputs = torch.cat([row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs])
    wanted = "".join(texts)
    assert len(outputs) == len(wanted)
    for index, character in zip(outputs.tolist(), wanted, strict=True):
        assert data.vocabulary.tokens[index] == (character if character not in "ßΩ" else "<unk>")


@pytest.mark.parametrize("text", ["", "123"])
def test_read_files_refuses_missing_and_empty_files(root, tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    data = module(root, normalizer="letters")
    assert refusal(lambda: data.read_files([tmp_path / "x.txt"])).startswith(f"{tmp_path / 'x.txt'}: ")
    assert refusal(lambda: data.read_files([tmp_path / "gone.txt"])).startswith(f"{tmp_path / 'gone.txt'}: ")
