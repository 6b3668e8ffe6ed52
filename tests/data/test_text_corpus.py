import random
from collections import Counter

import pytest
import torch

from attendgen.data.text_corpus import SPLITS, TextDataModule, split_text, text_files
from attendgen.data.windows import Windows, WindowSampler, collate
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD, SOS

CONTEXT, TIME = 7, 5


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
    return TextDataModule(str(root), **{"context": CONTEXT, "time": TIME, "min_frequency": 1, **options})


@pytest.fixture
def windows() -> Windows:
    # ids that tell every place from every other; lengths around a multiple of TIME
    texts, start = [], 4
    for length in (23, 1, TIME, 4 * TIME, 4 * TIME + 1):
        texts.append(torch.arange(start, start + length))
        start += length
    return Windows(texts, CONTEXT, TIME)


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# windows


def test_in_order_windows_are_the_texts_again(windows):
    parts = [windows[window][2] for batch in WindowSampler(windows, 3) for window in batch]
    assert torch.equal(torch.cat(parts), torch.cat(windows.texts))


@pytest.mark.parametrize("world", [2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_in_order_ranks_share_out_every_character(windows, world, batch_size):
    predicted = [
        index
        for rank in range(world)
        for batch in WindowSampler(windows, batch_size, rank=rank, world=world)
        for window in batch
        for index in windows[window][2].tolist()
    ]
    assert sorted(predicted) == torch.cat(windows.texts).tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_contexts_are_the_characters_to_the_left(windows, shuffle):
    sampler = WindowSampler(windows, 3, shuffle=shuffle, short_context_prob=0.0)
    beginnings = 0
    for window in (window for batch in sampler for window in batch):
        context, inputs, outputs = windows[window]
        left = windows.texts[window.text].tolist()
        place = left.index(outputs[0])
        assert outputs.tolist() == left[place : place + TIME]
        assert context.tolist() == left[:place][-CONTEXT:]
        before = left[place - 1] if place else SOS
        assert inputs.tolist() == [before, *outputs.tolist()[:-1]]
        beginnings += not place
    assert shuffle or beginnings == len(windows.texts)


def test_shuffled_windows_tile_each_text_from_one_offset(windows):
    offsets = set()
    for epoch in range(30):
        sampler = WindowSampler(windows, 1000, shuffle=True)  # one batch, so nothing is cut
        sampler.set_epoch(epoch)
        (batch,) = sampler
        (offset,) = {window.start % TIME for window in batch}
        offsets.add(offset)
        predicted = sorted(index for window in batch for index in windows[window][2].tolist())
        assert predicted == [index for text in windows.texts for index in text[offset:].tolist()]
    assert offsets == set(range(TIME))


def test_shuffled_epochs_depend_on_seed_and_epoch_alone(windows):
    def epoch(seed: int, number: int) -> list:
        torch.rand(1), random.random()  # global generators must not matter
        sampler = WindowSampler(windows, 3, seed, shuffle=True)
        sampler.set_epoch(number)
        assert list(sampler) == list(sampler)
        return list(sampler)

    assert epoch(0, 1) == epoch(0, 1)
    assert len({str(epoch(seed, number)) for seed in range(2) for number in range(3)}) == 6


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_length_is_the_number_of_batches(world, shuffle):
    for length in (*range(1, 2 * TIME + 2), 61, 100):
        windows = Windows([torch.arange(4, 4 + length), torch.arange(4, 20)], CONTEXT, TIME)
        for batch_size in (1, 2, 3, 50):
            for rank in range(world):
                sampler = WindowSampler(windows, batch_size, 0, shuffle, rank=rank, world=world)
                for epoch in range(4):
                    sampler.set_epoch(epoch)
                    assert len(list(sampler)) == len(sampler)


@pytest.mark.parametrize("world", [2, 3])
def test_shuffled_ranks_share_out_every_window(windows, world):
    for epoch in range(TIME):
        ranks = []
        for rank in range(world):
            sampler = WindowSampler(windows, 2, shuffle=True, rank=rank, world=world)
            sampler.set_epoch(epoch)
            ranks.append([(window.text, window.start) for batch in sampler for window in batch])
            sizes = {len(batch) for batch in sampler}
            assert max(sizes) - min(sizes) <= 1
        seen = [window for rank in ranks for window in rank]
        whole = WindowSampler(windows, 2, shuffle=True)
        whole.set_epoch(epoch)
        assert sorted(seen) == sorted((window.text, window.start) for batch in whole for window in batch)


@pytest.mark.parametrize("short", [0.0, 0.3, 1.0])
def test_a_share_of_the_batches_reads_short_contexts(short):
    windows = Windows([torch.arange(4, 4 + 2000 * TIME)], CONTEXT, TIME)
    batches = list(WindowSampler(windows, 2, shuffle=True, short_context_prob=short))
    limits = [{window.context for window in batch} for batch in batches]
    assert all(len(limit) == 1 for limit in limits)  # one length a batch, so that nothing is padded
    shortened = Counter(context for (context,) in limits if context < CONTEXT)
    assert sum(shortened.values()) / len(batches) == pytest.approx(short, abs=0.1 if 0 < short < 1 else 0)
    assert set(shortened) == (set(range(CONTEXT)) if short else set())
    for batch in batches:
        for window in batch:
            assert len(windows[window][0]) == min(window.context, window.start)


def test_no_context_at_all_can_be_asked_for():
    windows = Windows([torch.arange(4, 4 + 10 * TIME)], context_len=0, seq_len=TIME)
    for batch in WindowSampler(windows, 2, shuffle=True, short_context_prob=1.0):
        for window in batch:
            context, inputs, outputs = windows[window]
            assert context.tolist() == []
            assert inputs.tolist() == [SOS, *outputs.tolist()[:-1]]


def test_collating_pads_on_the_right(windows):
    chosen = [window for window in WindowSampler(windows, 1).windows() if window.text == 0]
    batch = collate([windows[window] for window in chosen])
    assert batch.context.shape == (len(chosen), CONTEXT)
    for window, *rows in zip(chosen, *batch[:3], strict=True):
        for row, part in zip(rows, windows[window], strict=True):
            assert row.tolist() == part.tolist() + [PAD] * (len(row) - len(part))


def test_empty_contexts_alone_are_one_column_of_padding(windows):
    batch = collate([windows[window] for window in WindowSampler(windows, 1).windows() if window.start == 0])
    assert batch.context.tolist() == [[PAD]] * len(windows.texts)  # an LSTM refuses a sequence of no steps


# files


@pytest.mark.parametrize("length", [1, 19, 20, 1003])
@pytest.mark.parametrize("shares", [(90, 5, 5), (0.9, 0.05, 0.05), (1, 1, 1)])
def test_parts_are_contiguous_and_of_the_shares(length, shares):
    text = corpus(length)
    parts = split_text(text, shares)
    assert list(parts) == list(SPLITS)
    assert "".join(parts.values()) == text
    for part, share in zip(parts.values(), shares, strict=True):
        assert len(part) == pytest.approx(length * share / sum(shares), abs=1)


def test_each_file_is_split_on_its_own(root):
    data = module(root)
    for number, path in enumerate(sorted(root.iterdir())):
        text = path.read_text(encoding="utf-8")
        parts = [data.texts(split)[number] for split in SPLITS]
        assert "".join(parts) == text
        assert [len(part) / len(text) for part in parts] == pytest.approx([0.9, 0.05, 0.05], abs=1 / len(text))
    assert data.texts("dev") == data.texts("val")


def test_evaluation_predicts_every_character_of_a_part_once(root):
    data = module(root, batch_size=4)
    data.setup("validate")
    outputs = [row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs]
    assert data.vocabulary.decode(torch.cat(outputs).tolist()) == "".join(data.texts("val"))


def test_training_batches_have_the_shapes_asked_for(root):
    data = module(root, batch_size=4, short_context_prob=0.0)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    assert Counter(batch.outputs.shape for batch in batches).most_common(1)[0][0] == (4, TIME)
    assert Counter(batch.context.shape for batch in batches).most_common(1)[0][0] == (4, CONTEXT)


def test_the_vocabulary_comes_from_the_training_part_alone(tmp_path):
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


def test_a_file_or_a_folder_may_be_named(root):
    (root / "notes.md").write_text("not a novel")
    first, second = text_files(root)
    assert (first.name, second.name) == ("0.txt", "1.txt")
    assert text_files(str(second)) == [second]


def test_a_corpus_shorter_than_one_window_is_named(root):
    path = root / "2.txt"
    needed = CONTEXT + TIME + 1
    length = needed  # of which the training part has but nine tenths
    path.write_text("a" * length)
    message = refusal(lambda: module(root).texts("train"))
    assert message.startswith(f"{path}: {length} characters are too few")
    assert f"one window needs {needed}" in message
    path.write_text("a" * 2 * needed)
    assert len(module(root).texts("train")) == 3


@pytest.mark.parametrize("text", ["", "日本語。" * 100])
def test_a_text_of_which_nothing_is_left_is_named(root, text):
    path = root / "2.txt"
    path.write_text(text, encoding="utf-8")
    message = refusal(lambda: module(root, normalizer="letters").setup("fit"))
    assert message.startswith(f"{path}: 0 characters")


def test_an_empty_part_is_named(root):
    (root / "2.txt").write_text("a" * 20)
    message = refusal(lambda: module(root, split_ratios=(98, 1, 1)).texts("val"))
    assert message.startswith(f"{root / '2.txt'}: the val part is empty")


@pytest.mark.parametrize("shares", [(90, 10), (90, 10, 0), (90, 20, -10)])
def test_three_positive_shares_are_needed(root, shares):
    assert "data.split_ratios=" in refusal(lambda: module(root, split_ratios=shares).texts("train"))


def test_a_file_in_another_encoding_is_named(root):
    path = root / "2.txt"
    path.write_bytes(b"first\nsecond\nd\xe9j\xe0 vu\n" * 100)
    assert refusal(lambda: module(root).texts("train")).startswith(f"{path}: line 3: not UTF-8")


def test_an_empty_or_missing_folder_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        assert refusal(lambda folder=folder: module(folder).texts("train")).startswith(f"{folder}: no .txt file")


def test_an_unknown_split_is_named(root):
    assert "'tset'" in refusal(lambda: module(root).texts("tset"))


def test_other_files_are_read_whole_and_unknown_characters_counted(root, tmp_path):
    texts = ("abc ßß é", "Ωa\n")
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_text(text, encoding="utf-8")
    data = module(root, batch_size=2)
    data.read_files(paths)
    assert data.coverage("text") == {"characters": 11, "unknown_characters": 3}
    data.eval_split = "text"
    outputs = torch.cat([row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs])
    wanted = "".join(texts)
    assert len(outputs) == len(wanted)
    for index, character in zip(outputs.tolist(), wanted, strict=True):
        assert data.vocabulary.tokens[index] == (character if character not in "ßΩ" else "<unk>")


@pytest.mark.parametrize("text", ["", "123"])
def test_other_files_of_which_nothing_is_left_are_named(root, tmp_path, text):
    (tmp_path / "x.txt").write_text(text)
    data = module(root, normalizer="letters")
    assert refusal(lambda: data.read_files([tmp_path / "x.txt"])).startswith(f"{tmp_path / 'x.txt'}: ")
    assert refusal(lambda: data.read_files([tmp_path / "gone.txt"])).startswith(f"{tmp_path / 'gone.txt'}: ")
