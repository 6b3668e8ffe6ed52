from pathlib import Path

import pytest
import torch

from attendgen.data.captions.dataset import CaptionDataset, CaptionedImages, collate
from attendgen.data.captions.images import augment, open_image, to_pixels
from attendgen.data.captions.sources import CaptionedImage
from attendgen.data.packed import PackedIds
from attendgen.text.tokenizers import split_caption
from attendgen.utils.special_tokens import EOS, PAD, SOS
from helpers.caption_sets import TRAIN, VAL

SIZE = 16
CAPTIONS = ("a dog", "", "chien été", "\N{HORSE FACE} runs", "lone \ud800 half", "x" * 1000)


def test_batch_holds_images_and_shifted_captions(flickr, make_data):
    data = make_data(flickr, batch_size=2, captions_per_image=5)
    data.setup("fit")
    seen = []
    for batch in data.train_dataloader():
        assert batch.images.shape == (len(batch.index), 3, SIZE, SIZE)
        assert batch.images.dtype == torch.uint8
        assert batch.inputs.shape == batch.outputs.shape == (len(batch.index), 5, batch.outputs.shape[-1])
        for index, image, inputs, outputs in zip(batch.index.tolist(), *batch[1:4], strict=True):
            name, captions = list(TRAIN.items())[index]
            assert torch.equal(image, to_pixels(open_image(flickr / "Images" / name), SIZE))
            known = [" ".join(split_caption(caption)) for caption in captions]
            rows = outputs.tolist()
            for before, after in zip(inputs.tolist(), rows, strict=True):
                if EOS in after:
                    end = after.index(EOS)
                    assert before == [SOS, *after[:end], *[PAD] * (len(after) - end - 1)]
                else:
                    assert set(before) == set(after) == {PAD}
            written = [data.vocabulary.decode(row) for row in rows if EOS in row]
            if len(captions) <= 5:
                assert written == known  # in order, then rows of <pad>
                assert all(EOS in row for row in rows[: len(captions)])
            else:
                assert len(set(written)) == 5
                assert set(written) < set(known)
            seen.append(index)
    assert sorted(seen) == list(range(len(TRAIN)))


def test_captions_are_drawn_for_each_epoch(flickr, make_data):
    data = make_data(flickr, captions_per_image=2).dataset("train")

    def draw(epoch: int) -> str:
        data.set_epoch(epoch)
        assert len(data[2][2]) == 2
        return str(sorted(data[2][2]))

    drawn = [draw(epoch) for epoch in range(200)]
    assert len(set(drawn)) == 15  # every pair out of six
    torch.rand(1)  # the global generator must not matter
    assert [draw(epoch) for epoch in range(200)] == drawn


def test_view_of_each_image_is_drawn_for_each_epoch(flickr, make_data):
    data = make_data(flickr, augmented_views=4)
    train = data.dataset("train")
    name = list(TRAIN)[1]
    image = open_image(flickr / "Images" / name)
    views = [to_pixels(augment(image, view, name), SIZE) for view in range(4)]

    def draw(epoch: int) -> int:
        train.set_epoch(epoch)
        (number,) = (i for i, view in enumerate(views) if torch.equal(view, train[1][1]))
        return number

    drawn = [draw(epoch) for epoch in range(400)]
    assert all(70 < drawn.count(view) < 130 for view in range(4))  # 100 expected; three standard deviations are 26
    torch.rand(1)  # the global generator must not matter
    assert [draw(epoch) for epoch in range(400)] == drawn
    for epoch in range(20):
        data.dataset("val").set_epoch(epoch)
        path = flickr / "Images" / next(iter(VAL))
        assert torch.equal(data.dataset("val")[0][1], to_pixels(open_image(path), SIZE))


def test_evaluation_scores_the_same_captions_in_every_epoch(flickr, make_data):
    data = make_data(flickr, captions_per_image=2)
    first = data.dataset("val")[1][2]
    assert [data.vocabulary.decode(ids) for ids in first] == ["a dog", "a dog"]
    assert all(data.dataset("val")[1][2] == first for _ in range(20))
    assert data.references("val")[1] == tuple(VAL["e.png"])  # all of them are references


@pytest.mark.parametrize("ids", [[3, 2**40, 1], ["c.jpg", "a.jpg", "b.jpg"], [7, "b.jpg", 9]])
def test_packed_images_equal_the_images(ids):
    folders = [Path("/data/one"), Path("/data/two"), Path("three")]
    rows = [
        CaptionedImage(key, folder / f"{key}é.jpg", CAPTIONS[:n])
        for key, folder, n in zip(ids, folders, (2, 1, 4), strict=True)
    ]
    packed = CaptionedImages(rows)
    assert list(packed) == rows
    assert [packed[i] for i in range(-3, 3)] == rows + rows
    assert packed[::-2] == rows[::-2]
    assert packed.paths() == [row.path for row in rows]
    assert list(packed.references()) == [row.captions for row in rows]
    assert list(packed.image_ids) == ids


def test_collate_pads_missing_captions():
    ids = PackedIds([[[4, 5, 6], [7]], [[8, 9]]])
    images = torch.arange(12.0).view(2, 2, 3)
    data = CaptionDataset(ids, [images], captions_per_image=2)
    assert len(data) == 2
    batch = collate([data[1], data[0]])
    assert batch.index.tolist() == [1, 0]
    assert torch.equal(batch.images, images[[1, 0]])
    assert batch.outputs.tolist() == [[[8, 9, EOS, PAD], [PAD] * 4], [[4, 5, 6, EOS], [7, EOS, PAD, PAD]]]
    assert batch.inputs.tolist() == [[[SOS, 8, 9, PAD], [PAD] * 4], [[SOS, 4, 5, 6], [SOS, 7, PAD, PAD]]]
