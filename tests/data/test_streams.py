from itertools import pairwise

import pytest
import torch
from attendgen.data.stateful import Streams, StreamSampler, collate_chunks

from attendgen.data.text_corpus import TextDataModule
from attendgen.utils.special_tokens import PAD, SOS

TIME = 5


@pytest.fixture
def streams() -> Streams:
    # ids that tell every place from every other
    texts, start = [], 4
    for length in (43, 1, TIME, 80):
        texts.append(torch.arange(start, start + length))
        start += length
    return Streams(texts)


def rows(streams: Streams, sampler: StreamSampler) -> list[list]:
    """What each row of the sampler's batches reads, [(input, output, fresh at its piece)], group by group."""
    found: list[list] = []
    for batch in sampler:
        pieces = [streams[piece] for piece in batch]
        if pieces[0][2]:
            first = len(found)
            found += [[] for _ in batch]
        for row, (inputs, outputs, fresh) in enumerate(pieces):
            found[first + row] += [(i, o, fresh) for i, o in zip(inputs.tolist(), outputs.tolist(), strict=True)]
    return found


def before(streams: Streams) -> dict[int, int]:
    """The character before each character: <sos> before a text's first."""
    pairs = [zip(text.tolist(), [SOS, *text.tolist()[:-1]], strict=True) for text in streams.texts]
    return {character: left for pair in pairs for character, left in pair}


def test_characters_are_cut_across_texts(streams):
    whole = torch.cat(list(streams.texts))
    for start in (0, 42, 43, 44, 60, len(whole) - 1):
        for end in range(start, len(whole) + 1):
            assert torch.equal(streams.cut(start, end), whole[start:end])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_tracks_go_on_without_a_gap_or_an_overlap(streams, world):
    left = before(streams)
    for epoch in range(4):
        seen = []
        for rank in range(world):
            sampler = StreamSampler(streams, 3, TIME, seed=1, shuffle=True, rank=rank, world=world)
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == len(sampler) > 0
            for track in rows(streams, sampler):
                characters = [output for _, output, _ in track]
                assert characters == list(range(characters[0], characters[0] + len(batches) * TIME))
                assert [i for i, _, _ in track] == [left[character] for character in characters]
                assert [fresh for _, _, fresh in track] == [True] * TIME + [False] * (len(track) - TIME)
                seen += characters
        assert len(seen) == len(set(seen))
        assert len(seen) > len(streams) - 3 * world * TIME - TIME


def test_epochs_start_at_other_characters(streams):
    def first(seed: int, epoch: int) -> int:
        sampler = StreamSampler(streams, 2, TIME, seed=seed, shuffle=True)
        sampler.set_epoch(epoch)
        return next(iter(sampler))[0].start

    assert first(0, 3) == first(0, 3)
    assert {first(0, epoch) for epoch in range(40)} == set(range(TIME))


@pytest.mark.parametrize("warm", [0, 3, 7, 500])
@pytest.mark.parametrize("world", [1, 2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_every_character_is_predicted_once_after_those_to_its_left(streams, batch_size, world, warm):
    left, seen = before(streams), []
    for rank in range(world):
        sampler = StreamSampler(streams, batch_size, TIME, warm, rank=rank, world=world)
        assert len(list(sampler)) == len(sampler) > 0
        for track in rows(streams, sampler):
            predicted = [output for _, output, _ in track if output != PAD]
            read = [i for i, _, _ in track]
            seen += predicted
            # from `warm` characters before the first one, or from the text's beginning, without a gap
            assert len(read) - len(predicted) == warm or read[0] == SOS
            assert read[1:] == list(range(track[-1][1] - len(read) + 1, track[-1][1]))
            assert read[-1] == left[track[-1][1]]
    assert sorted(seen) == sorted(left)


def test_a_row_that_has_ended_is_padding(streams):
    sampler = StreamSampler(streams, 4, TIME, warm=20)  # so few tracks that each text is one
    batches = [collate_chunks([streams[piece] for piece in batch]) for batch in sampler]
    assert batches[0].reset.tolist() == [True] * 4
    for row, length in enumerate((80, 43, TIME, 1)):
        outputs = torch.cat([batch.outputs[row] for batch in batches])
        assert (outputs != PAD).tolist() == [True] * length + [False] * (80 - length)


def test_the_data_module_gives_streams(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh" * 100)
    data = TextDataModule(str(tmp_path), context_len=7, seq_len=TIME, stateful=True, batch_size=4)
    data.setup("fit")
    outputs = torch.cat([row[row != PAD] for batch in data.val_dataloader() for row in batch.outputs])
    assert sorted(data.vocabulary.decode(outputs.tolist())) == sorted("".join(data.texts("val")))
    batches = list(data.train_dataloader())
    assert {batch.inputs.shape for batch in batches} == {(4, TIME)}
    for one, two in pairwise(batches):
        assert torch.equal(two.inputs[:, 0], one.outputs[:, -1])
