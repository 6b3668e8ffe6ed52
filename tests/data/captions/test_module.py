import json
import logging
import shutil
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from attendgen.data.captions.coco import Coco, Karpathy
from attendgen.data.captions.images import open_image, to_pixels
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.text.tokenizers import split_caption
from attendgen.utils.special_tokens import EOS
from helpers.caption_sets import TRAIN, VAL, coco_json
from helpers.errors import refusal

SIZE = 16


def test_missing_images_are_refused_in_one_error(flickr, make_data):
    for name in ("a.png", "c.png"):
        (flickr / "Images" / name).unlink()
    message = refusal(lambda: make_data(flickr).setup("fit"))
    assert (
        message == f"{flickr / 'Images'}: 2 annotated images missing: a.png, c.png; data.skip_bad=true leaves them out"
    )


def test_missing_images_are_named_with_their_folders(karpathy, make_data):
    (karpathy / "train2014/a.png").unlink()
    (karpathy / "val2014/b.png").unlink()
    message = refusal(lambda: make_data(karpathy, Karpathy).setup("fit"))
    assert (
        message
        == f"{karpathy}: 2 annotated images missing: train2014/a.png, val2014/b.png; data.skip_bad=true leaves them out"
    )


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_broken_image_is_refused(flickr, make_data, tmp_path, damage, cached):
    path = flickr / "Images/b.png"
    path.write_bytes(path.read_bytes()[:-200] if damage == "truncated" else b"<html>404</html>")
    data = make_data(flickr, cache=str(tmp_path / "cache") if cached else None)

    def read():
        data.setup("fit")
        return list(data.train_dataloader())

    assert refusal(read).startswith(f"{path}: {'corrupt or truncated' if damage == 'truncated' else 'not an image'}")


def test_vocabulary_is_of_the_training_captions_alone(flickr, make_data):
    data = make_data(flickr)
    data.setup("fit")
    words = Counter(word for all in TRAIN.values() for caption in all for word in split_caption(caption))
    assert set(data.vocabulary.tokens) - set(data.vocabulary.specials) == set(words)
    assert "zebra" not in words
    (zebra,) = data.dataset("val").ids[0]
    assert zebra == [data.vocabulary.ids["a"], data.vocabulary.unknown]


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_images_out_of_range_is_named(flickr, make_data, number):
    assert refusal(make_data, flickr, max_samples=number) == (
        f"data.max_samples={number}: expected a whole number from 1"
    )


@pytest.mark.parametrize("min_frequency", [1, 2, 4])
def test_rare_words_become_unknown(flickr, make_data, min_frequency):
    vocabulary = make_data(flickr, min_frequency=min_frequency).build_vocabulary()
    words = Counter(word for all in TRAIN.values() for caption in all for word in split_caption(caption))
    kept = {word for word, count in words.items() if count >= min_frequency}
    assert kept
    assert set(vocabulary.tokens) - set(vocabulary.specials) == kept


def test_long_training_captions_are_truncated_and_counted(flickr, make_data, caplog):
    path = flickr / "Flickr8k.token.txt"
    long = {"b.png": [30, 26, 25, 300], "d.png": [40]}
    lines = [f"{name}#{9 + i}\t{'cat ' * n}" for name, lengths in long.items() for i, n in enumerate(lengths)]
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    data = make_data(flickr, captions_per_image=5, max_length=25)
    with caplog.at_level(logging.INFO, "attendgen"):
        data.setup("fit")
    assert [record.getMessage() for record in caplog.records] == ["3 training captions truncated to 25 tokens"]
    lengths = [len(ids) for ids in data.dataset("train").ids[1]]
    assert lengths == [3, 25, 25, 25, 25]
    assert len(data.dataset("val").ids[0][1]) == 40  # evaluation captions are not truncated


def test_nothing_is_logged_if_no_caption_is_truncated(flickr, make_data, caplog):
    with caplog.at_level(logging.INFO, "attendgen"):
        make_data(flickr).setup("fit")
    assert not caplog.records


@torch.no_grad()
def test_cached_features_equal_the_encoders_output(flickr, make_data, encoder, tmp_path):
    data = make_data(flickr, cache=str(tmp_path / "cache"), batch_size=2)
    data.setup("fit")
    for loader, captions in ((data.train_dataloader(), TRAIN), (data.val_dataloader(), VAL)):
        seen = 0
        for batch in loader:
            paths = [flickr / "Images" / list(captions)[index] for index in batch.index.tolist()]
            pixels = torch.stack([to_pixels(open_image(path), SIZE) for path in paths])
            exact = encoder(pixels.to(encoder.mean.device)).cpu()
            batch = data.on_after_batch_transfer(batch, 0)
            torch.testing.assert_close(batch.images, exact, rtol=2e-3, atol=2e-3)
            assert exact.std() > 0.02
            seen += len(paths)
        assert seen == len(captions)


@pytest.mark.parametrize("views", [1, 2])
def test_resident_features_are_those_that_are_read(flickr, make_data, encoder, tmp_path, views):
    batches = {}
    for resident in (False, True):
        settings = {"batch_size": 2, "augmented_views": views, "resident": resident, "workers": "auto"}
        data = make_data(flickr, cache=str(tmp_path / "cache"), **settings)
        data.setup("fit")
        loaders = {"train": data.train_dataloader(), "val": data.val_dataloader()}
        batches[resident] = []
        for split, loader in loaders.items():
            data.trainer = SimpleNamespace(training=split == "train")
            batches[resident] += [data.on_after_batch_transfer(batch, 0) for batch in loader]
    assert len(batches[True]) == len(batches[False]) > 2
    torch.testing.assert_close(batches[True], batches[False], rtol=0, atol=0)
    assert all(batch.images.dtype == torch.float32 for batch in batches[True])


def test_resident_features_need_a_cache(flickr, make_data):
    data = make_data(flickr, cache=None, resident=True)
    assert "data.resident=true: needs cached features; set data.cache=DIR" in refusal(lambda: data.setup("fit"))


def test_nearest_captions_are_all_captions_of_the_nearest_training_image(flickr, make_data, encoder, tmp_path):
    shutil.copy(flickr / "Images" / "c.png", flickr / "Images" / "d.png")  # an image of val is one of training
    data = make_data(flickr, cache=str(tmp_path / "cache"), captions_per_image=2)
    vocabulary = data.build_vocabulary()
    with torch.no_grad():
        annotations = encoder(torch.stack([to_pixels(open_image(flickr / "Images" / "d.png"), SIZE)]))
    found = [vocabulary.decode(ids) for ids in data.nearest_captions(1)(annotations)[0].tolist()]
    assert found == [vocabulary.decode(vocabulary.encode(caption)) for caption in TRAIN["c.png"]]
    assert "there are 3 training images" in refusal(lambda: data.nearest_captions(4))
    data.eval_split = "train"
    assert "choose another split" in refusal(lambda: data.nearest_captions(1))
    data = make_data(flickr, cache=None)
    data.build_vocabulary()
    assert "set data.cache=DIR" in refusal(lambda: data.nearest_captions(1))


def test_image_ids_are_names_in_flickr8k_and_numbers_in_coco(flickr, coco, make_data):
    data = make_data(flickr)
    assert data.inputs("val") == data.inputs("dev") == list(VAL)
    assert data.references("val") == {i: tuple(captions) for i, captions in enumerate(VAL.values())}
    numbered = make_data(coco, Coco)
    ids = {image["id"]: image["file_name"] for image in coco_json(VAL)["images"]}
    assert numbered.inputs("val") == sorted(ids)
    assert numbered.references("val") == {i: tuple(VAL[ids[number]]) for i, number in enumerate(sorted(ids))}


def test_dev_and_val_name_the_same_split(karpathy, make_data):
    data = make_data(karpathy, Karpathy)
    assert data.references("dev") == data.references("val") == {0: tuple(VAL["d.png"])}


def test_max_samples_keeps_the_first_images(flickr, make_data):
    data = make_data(flickr, max_samples=1)
    data.setup("fit")
    assert data.inputs("train") == ["a.png"]
    assert len(data.dataset("val")) == 1


def test_loader_reads_real_coco(shared, make_data, tmp_path):
    root = shared / "data/coco_mini"
    raw = json.loads((root / "annotations/captions_val2017.json").read_text())
    data = make_data(root, partial(Coco, year=2017), cache=str(tmp_path), captions_per_image=5)
    batches = list(data.make_loader("val", shuffle=False))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(len(raw["images"])))
    assert batches[0].images.shape == (32, (SIZE // 2) ** 2, 4)
    ids = data.inputs("val")
    assert ids == sorted(image["id"] for image in raw["images"])
    written = {}
    for annotation in raw["annotations"]:
        written.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
    assert data.references("val") == {i: tuple(written[number]) for i, number in enumerate(ids)}
    for batch in batches:
        for i, outputs in zip(batch.index.tolist(), batch.outputs.tolist(), strict=True):
            known = data.vocabulary.ids
            expected = [
                " ".join(word if word in known else "<unk>" for word in split_caption(caption))
                for caption in written[ids[i]][:5]
            ]
            assert [data.vocabulary.decode(row) for row in outputs if EOS in row] == expected


def test_connect_sets_the_vocabulary_and_the_encoder(flickr, make_data):
    vocabulary = make_data(flickr).build_vocabulary()
    data = make_data(flickr)
    other = SmallCNN(channels=(4,), size=2 * SIZE, freeze=True)
    data.connect(vocabulary, other)
    data.open_split("dev")
    assert data.vocabulary is vocabulary
    (batch,) = data.val_dataloader()
    assert batch.images.shape == (len(VAL), 3, 2 * SIZE, 2 * SIZE)
    data.connect(vocabulary)
    assert data.encoder is other


def test_features_of_a_trained_encoder_are_not_cached(flickr, make_data, tmp_path):
    data = make_data(flickr, cache=str(tmp_path / "cache"))
    data.connect(data.build_vocabulary(), SmallCNN(channels=(4,), size=SIZE))
    assert refusal(lambda: data.setup("fit")).endswith("set data.cache=null")


@pytest.mark.parametrize("field", ["batch_size", "captions_per_image", "augmented_views", "max_length"])
def test_numbers_below_1_are_refused(flickr, make_data, field):
    assert refusal(lambda: make_data(flickr, **{field: 0})) == f"data.{field}=0: expected a whole number from 1"


def test_images_that_are_missing_or_broken_are_left_out_on_request(flickr, make_data, tmp_path, caplog):
    (flickr / "Images/c.png").unlink()
    broken = flickr / "Images/b.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    (flickr / "Images/d.png").write_bytes(b"<html>404</html>")
    for cache in (None, str(tmp_path / "cache"), str(tmp_path / "cache")):
        caplog.clear()
        data = make_data(flickr, cache=cache, skip_bad=True)
        data.setup("fit")
        assert [path.name for path in data.rows("train").paths()] == ["a.png"]
        assert [path.name for path in data.rows("val").paths()] == ["e.png"]
        assert len(list(data.train_dataloader())) == 1
        messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert f"{flickr / 'Images'}: 1 annotated images missing: c.png; they are left out" in messages
        assert f"{flickr / 'Images'}: 1 images that cannot be read: b.png; they are left out" in messages


def test_a_data_set_of_which_nothing_is_left_is_refused(flickr, make_data):
    for name in TRAIN:
        (flickr / "Images" / name).unlink()
    message = refusal(lambda: make_data(flickr, skip_bad=True).setup("fit"))
    assert message == f"{flickr / 'Images'}: 3 annotated images missing: a.png, b.png, c.png"
