import random
from collections import Counter

import pytest
import torch

from attendgen.data.windows import Windows, WindowSampler, collate
from attendgen.utils.special_tokens import PAD, SOS

CONTEXT, SEQ_LEN = 7, 5


@pytest.fixture
def windows() -> Windows:
    # every character has an id of its own; lengths around a multiple of SEQ_LEN
    texts, start = [], 4
    for length in (23, 1, SEQ_LEN, 4 * SEQ_LEN, 4 * SEQ_LEN + 1):
        texts.append(torch.arange(start, start + length))
        start += length
    return Windows(texts, CONTEXT, SEQ_LEN)


def test_unshuffled_windows_are_the_texts(windows):
    parts = [windows[window][2] for batch in WindowSampler(windows, 3) for window in batch]
    assert torch.equal(torch.cat(parts), torch.cat(windows.texts))


@pytest.mark.parametrize("world", [2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_unshuffled_ranks_predict_every_character_once(windows, world, batch_size):
    predicted = [
        index
        for rank in range(world)
        for batch in WindowSampler(windows, batch_size, rank=rank, world=world)
        for window in batch
        for index in windows[window][2].tolist()
    ]
    assert sorted(predicted) == torch.cat(windows.texts).tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_contexts_are_the_characters_before(windows, shuffle):
    sampler = WindowSampler(windows, 3, shuffle=shuffle, short_context_prob=0.0)
    beginnings = 0
    for window in (window for batch in sampler for window in batch):
        context, inputs, outputs = windows[window]
        left = windows.texts[window.text].tolist()
        place = left.index(outputs[0])
        assert outputs.tolist() == left[place : place + SEQ_LEN]
        assert context.tolist() == left[:place][-CONTEXT:]
        before = left[place - 1] if place else SOS
        assert inputs.tolist() == [before, *outputs.tolist()[:-1]]
        beginnings += not place
    assert shuffle or beginnings == len(windows.texts)


def test_shuffled_windows_cover_each_text_from_one_offset(windows):
    offsets = set()
    for epoch in range(30):
        sampler = WindowSampler(windows, 1000, shuffle=True)  # one batch, so no window is left out
        sampler.set_epoch(epoch)
        (batch,) = sampler
        (offset,) = {window.start % SEQ_LEN for window in batch}
        offsets.add(offset)
        predicted = sorted(index for window in batch for index in windows[window][2].tolist())
        assert predicted == [index for text in windows.texts for index in text[offset:].tolist()]
    assert offsets == set(range(SEQ_LEN))


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
def test_length_is_the_number_of_batches(world, shuffle):
    for length in (*range(1, 2 * SEQ_LEN + 2), 61, 100):
        windows = Windows([torch.arange(4, 4 + length), torch.arange(4, 20)], CONTEXT, SEQ_LEN)
        for batch_size in (1, 2, 3, 50):
            for rank in range(world):
                sampler = WindowSampler(windows, batch_size, 0, shuffle, rank=rank, world=world)
                for epoch in range(4):
                    sampler.set_epoch(epoch)
                    missing = len(sampler) - len(list(sampler))
                    assert missing == 0 or (missing == 1 and rank > 0 and not shuffle)


@pytest.mark.parametrize("world", [2, 3])
def test_shuffled_ranks_see_every_window_once(windows, world):
    for epoch in range(SEQ_LEN):
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
def test_short_contexts_have_their_probability(short):
    windows = Windows([torch.arange(4, 4 + 2000 * SEQ_LEN)], CONTEXT, SEQ_LEN)
    batches = list(WindowSampler(windows, 2, shuffle=True, short_context_prob=short))
    limits = [{window.context for window in batch} for batch in batches]
    assert all(len(limit) == 1 for limit in limits)  # one length per batch, so that nothing is padded
    shortened = Counter(context for (context,) in limits if context < CONTEXT)
    assert sum(shortened.values()) / len(batches) == pytest.approx(short, abs=0.1 if 0 < short < 1 else 0)
    assert set(shortened) == (set(range(CONTEXT)) if short else set())
    for batch in batches:
        for window in batch:
            assert len(windows[window][0]) == min(window.context, window.start)


def test_context_len_may_be_0():
    windows = Windows([torch.arange(4, 4 + 10 * SEQ_LEN)], context_len=0, seq_len=SEQ_LEN)
    for batch in WindowSampler(windows, 2, shuffle=True, short_context_prob=1.0):
        for window in batch:
            context, inputs, outputs = windows[window]
            assert context.tolist() == []
            assert inputs.tolist() == [SOS, *outputs.tolist()[:-1]]


def test_collate_pads_on_the_right(windows):
    chosen = [window for window in WindowSampler(windows, 1).windows() if window.text == 0]
    batch = collate([windows[window] for window in chosen])
    assert batch.context.shape == (len(chosen), CONTEXT)
    for window, *rows in zip(chosen, *batch[:3], strict=True):
        for row, part in zip(rows, windows[window], strict=True):
            assert row.tolist() == part.tolist() + [PAD] * (len(row) - len(part))


def test_empty_contexts_are_one_column_of_padding(windows):
    batch = collate([windows[window] for window in WindowSampler(windows, 1).windows() if window.start == 0])
    assert batch.context.tolist() == [[PAD]] * len(windows.texts)  # an LSTM refuses a sequence of no steps
