from itertools import pairwise

import pytest
import torch

from attendgen.data.streams import Streams, StreamSampler, collate_chunks
from attendgen.data.text_corpus import TextDataModule
from attendgen.utils.special_tokens import PAD, SOS

SEQ_LEN = 5


@pytest.fixture
def streams() -> Streams:
    # every character has an id of its own
    texts, start = [], 4
    for length in (43, 1, SEQ_LEN, 80):
        texts.append(torch.arange(start, start + length))
        start += length
    return Streams(texts)


def read_rows(streams: Streams, sampler: StreamSampler) -> list[list]:
    """Return what each row of the batches reads, [(input, output, reset of its chunk)], group by group."""
    found: list[list] = []
    for batch in sampler:
        chunks = [streams[chunk] for chunk in batch]
        if chunks[0][2]:
            first = len(found)
            found += [[] for _ in batch]
        for row, (inputs, outputs, reset) in enumerate(chunks):
            found[first + row] += [(i, o, reset) for i, o in zip(inputs.tolist(), outputs.tolist(), strict=True)]
    return found


def find_previous(streams: Streams) -> dict[int, int]:
    """Return the character before each character: <sos> before the first of a text."""
    pairs = [zip(text.tolist(), [SOS, *text.tolist()[:-1]], strict=True) for text in streams.texts]
    return {character: left for pair in pairs for character, left in pair}


def test_cut_spans_several_texts(streams):
    whole = torch.cat(list(streams.texts))
    for start in (0, 42, 43, 44, 60, len(whole) - 1):
        for end in range(start, len(whole) + 1):
            assert torch.equal(streams.cut(start, end), whole[start:end])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_tracks_continue_without_gap_or_overlap(streams, world):
    left = find_previous(streams)
    for epoch in range(4):
        seen = []
        for rank in range(world):
            sampler = StreamSampler(streams, 3, SEQ_LEN, seed=1, shuffle=True, rank=rank, world=world)
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == len(sampler) > 0
            for track in read_rows(streams, sampler):
                characters = [output for _, output, _ in track]
                assert characters == list(range(characters[0], characters[0] + len(batches) * SEQ_LEN))
                assert [i for i, _, _ in track] == [left[character] for character in characters]
                assert [reset for _, _, reset in track] == [True] * SEQ_LEN + [False] * (len(track) - SEQ_LEN)
                seen += characters
        assert len(seen) == len(set(seen))
        assert len(seen) > len(streams) - 3 * world * SEQ_LEN - SEQ_LEN


def test_epochs_start_at_different_characters(streams):
    def first(seed: int, epoch: int) -> int:
        sampler = StreamSampler(streams, 2, SEQ_LEN, seed=seed, shuffle=True)
        sampler.set_epoch(epoch)
        return next(iter(sampler))[0].start

    assert first(0, 3) == first(0, 3)
    assert {first(0, epoch) for epoch in range(40)} == set(range(SEQ_LEN))


@pytest.mark.parametrize("context_len", [0, 3, 7, 500])
@pytest.mark.parametrize("world", [1, 2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_every_character_is_predicted_once_after_the_characters_before_it(streams, batch_size, world, context_len):
    left, seen = find_previous(streams), []
    for rank in range(world):
        sampler = StreamSampler(streams, batch_size, SEQ_LEN, context_len, rank=rank, world=world)
        assert len(list(sampler)) == len(sampler) > 0
        for track in read_rows(streams, sampler):
            predicted = [output for _, output, _ in track if output != PAD]
            read = [i for i, _, _ in track]
            seen += predicted
            # from `context_len` characters before the first one, or from the text's beginning, without a gap
            assert len(read) - len(predicted) == context_len or read[0] == SOS
            assert read[1:] == list(range(track[-1][1] - len(read) + 1, track[-1][1]))
            assert read[-1] == left[track[-1][1]]
    assert sorted(seen) == sorted(left)


def test_row_of_an_ended_track_is_padding(streams):
    sampler = StreamSampler(streams, 4, SEQ_LEN, context_len=20)  # so few tracks that each text is one
    batches = [collate_chunks([streams[chunk] for chunk in batch]) for batch in sampler]
    assert batches[0].reset.tolist() == [True] * 4
    for row, length in enumerate((80, 43, SEQ_LEN, 1)):
        outputs = torch.cat([batch.outputs[row] for batch in batches])
        assert (outputs != PAD).tolist() == [True] * length + [False] * (80 - length)


def test_data_module_returns_streams(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh" * 100)
    data = TextDataModule(str(tmp_path), context_len=7, seq_len=SEQ_LEN, stateful=True, batch_size=4)
    data.setup("fit")
    outputs = torch.cat([row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs])
    assert sorted(data.vocabulary.decode(outputs.tolist())) == sorted("".join(data.texts("val")))
    batches = list(data.train_dataloader())
    assert {batch.inputs.shape for batch in batches} == {(4, SEQ_LEN)}
    for one, two in pairwise(batches):
        assert torch.equal(two.inputs[:, 0], one.outputs[:, -1])
