import json
import logging
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attendgen.data.captions.images import augment, open_image, to_pixels
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.captions.sources import LONGEST_CAPTION, CaptionedImage, CaptionSource, Coco, Flickr8k, Karpathy
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.text.tokenizers import split_caption
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

SIZE = 16
TRAIN = {
    "a.png": ["A dog runs .", "The dog's ball", "a dog and a cat"],
    "b.png": ["A cat sleeps ."],
    "c.png": ["two cats", "Cats !", "a cat , a cat", "some cats", "one more", "the last"],
}
VAL = {"d.png": ["A zebra"], "e.png": ["a dog", "a DOG .", "dogs", "a puppy"]}
RESULTS = {"train": TRAIN, "val": VAL}


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def paint(folder: Path, names) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(names)))
    for name in names:
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name)


@pytest.fixture
def flickr(tmp_path) -> Path:
    root = tmp_path / "flickr8k"
    paint(root / "Images", [*TRAIN, *VAL])
    (root / "Flickr_8k.trainImages.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "Flickr_8k.devImages.txt").write_text("\n".join(VAL) + "\n")
    lines = [f"{name}#{i}\t{caption}" for name, all in {**VAL, **TRAIN}.items() for i, caption in enumerate(all)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return root


def coco_json(captions: dict[str, list[str]]) -> dict:
    """COCO's JSON with ids that are not in the order of the file."""
    ids = {name: 90 - place for place, name in enumerate(captions)}
    pairs = [(name, caption) for name, all in captions.items() for caption in all]
    return {
        "info": {},
        "images": [{"id": ids[name], "file_name": name} for name in captions],
        "annotations": [{"id": k, "image_id": ids[name], "caption": text} for k, (name, text) in enumerate(pairs)],
    }


@pytest.fixture
def coco(tmp_path) -> Path:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, captions in RESULTS.items():
        paint(root / f"{split}2017", captions)
        (root / f"annotations/captions_{split}2017.json").write_text(json.dumps(coco_json(captions)))
    return root


def karpathy_json() -> dict:
    splits = {"a.png": "train", "b.png": "restval", "c.png": "train", "d.png": "val", "e.png": "test"}
    return {
        "images": [
            {
                "split": splits[name],
                "filename": name,
                "filepath": "val2014" if splits[name] != "train" else "train2014",
                "cocoid": 1000 + place,
                "sentences": [{"raw": caption, "tokens": ["not", "these"]} for caption in captions],
            }
            for place, (name, captions) in enumerate({**TRAIN, **VAL}.items())
        ],
        "dataset": "coco",
    }


@pytest.fixture
def karpathy(tmp_path) -> Path:
    root = tmp_path / "karpathy"
    paint(root / "train2014", ["a.png", "c.png"])
    paint(root / "val2014", ["b.png", "d.png", "e.png"])
    (root / "dataset_coco.json").write_text(json.dumps(karpathy_json()))
    return root


@pytest.fixture
def encoder() -> GridEncoder:
    return SmallCNN(channels=(4,), size=SIZE, freeze=True)


def module(root: Path, encoder: GridEncoder, source=Flickr8k, **options) -> CaptionDataModule:
    return CaptionDataModule(str(root), source, encoder, **{"min_frequency": 1, **options})


def edited(path: Path, change) -> None:
    """Change a JSON file in place."""
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))


# Flickr8k


def test_flickr_rows_are_the_lists_with_their_captions(flickr):
    source = Flickr8k(str(flickr))
    assert isinstance(source, CaptionSource)
    for split, captions in RESULTS.items():
        expected = [CaptionedImage(name, flickr / "Images" / name, tuple(all)) for name, all in captions.items()]
        assert source(split) == expected
    assert source("dev") == source("val")


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_flickr_line_ends_and_byte_order_marks_do_not_matter(flickr, before):
    rows = Flickr8k(str(flickr))("train")
    for path in flickr.glob("*.txt"):
        path.write_bytes(before + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert Flickr8k(str(flickr))("train") == rows


def test_flickr_unicode_line_separators_stay_inside_a_caption(flickr):
    path = flickr / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace("A cat sleeps", "A cat\u2028sleeps"), encoding="utf-8")
    assert Flickr8k(str(flickr))("train")[1].captions == ("A cat\u2028sleeps .",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.png#9 no tab", "expected 'IMAGE#NUMBER<tab>CAPTION'"),
        ("a.png\tno number", "expected 'IMAGE#NUMBER<tab>CAPTION'"),
        ("a.png#9\t ", "(a.png#9): empty caption"),
        ("a.png#9\t" + "word " * 300, "(a.png#9): a caption of 300 words"),
    ],
    ids=["no tab", "no #", "empty", "300 words"],
)
def test_flickr_bad_lines_are_named(flickr, line, said):
    path = flickr / "Flickr8k.token.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]))
    message = refusal(lambda: Flickr8k(str(flickr))("train"))
    assert message.startswith(f"{path}: line 4")
    assert said in message


def test_flickr_images_without_a_caption_are_named(flickr):
    listing = flickr / "Flickr_8k.trainImages.txt"
    listing.write_text(listing.read_text() + "y.png\nz.png\n")
    message = refusal(lambda: Flickr8k(str(flickr))("train"))
    assert message.startswith(f"{flickr / 'Flickr8k.token.txt'}: no caption for 2 images of {listing.name}")
    assert message.endswith("y.png, z.png")


def test_flickr_empty_and_missing_files_are_named(flickr):
    listing = flickr / "Flickr_8k.trainImages.txt"
    listing.write_text("\n\n")
    assert refusal(lambda: Flickr8k(str(flickr))("train")) == f"{listing}: empty image list"
    assert refusal(lambda: Flickr8k(str(flickr))("test")).startswith(f"{flickr / 'Flickr_8k.testImages.txt'}: ")
    (flickr / "Flickr8k.token.txt").unlink()
    assert refusal(lambda: Flickr8k(str(flickr))("val")).startswith(f"{flickr / 'Flickr8k.token.txt'}: ")


def test_flickr_not_utf8_is_named(flickr):
    path = flickr / "Flickr8k.token.txt"
    path.write_bytes(path.read_bytes() + b"a.png#9\tcaf\xe9\n")
    number = path.read_bytes().count(b"\n")
    assert refusal(lambda: Flickr8k(str(flickr))("train")).startswith(f"{path}: line {number}: not UTF-8")


# COCO


def test_coco_rows_are_the_images_by_number(coco):
    source = Coco(str(coco))
    assert isinstance(source, CaptionSource)
    for split, captions in RESULTS.items():
        ids = {image["file_name"]: image["id"] for image in coco_json(captions)["images"]}
        names = sorted(captions, key=lambda name: ids[name])
        expected = [CaptionedImage(ids[name], coco / f"{split}2017" / name, tuple(captions[name])) for name in names]
        assert source(split) == expected
    with pytest.raises(UserError, match="not public"):
        source("test")


def test_coco_prints_nothing(coco, capsys):
    Coco(str(coco))("train")
    assert capsys.readouterr() == ("", "")


def test_coco_images_without_captions_are_passed_over(coco):
    path = coco / "annotations/captions_val2017.json"
    before = Coco(str(coco))("val")
    edited(path, lambda data: data["images"].append({"id": 1, "file_name": "bare.png"}))
    assert Coco(str(coco))("val") == before


def test_coco_other_years_have_other_names(coco):
    assert "captions_train2014.json" in refusal(lambda: Coco(str(coco), 2014)("train"))


def set_in(where: str, index: int, field: str, value):
    return lambda data: data[where][index].__setitem__(field, value)


def drop_in(where: str, index: int, field: str):
    return lambda data: data[where][index].__delitem__(field)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: [data], "expected an object with 'images' and 'annotations'"),
        (lambda data: "text", "expected an object with 'images' and 'annotations'"),
        (lambda data: data.__delitem__("images"), "field 'images' is missing"),
        (lambda data: data.__delitem__("annotations"), "field 'annotations' is missing"),
        (lambda data: {**data, "annotations": []}, "field 'annotations' is missing, empty or no list"),
        (lambda data: {**data, "images": {"1": {}}}, "field 'images' is missing, empty or no list"),
        (lambda data: data["images"].append("a.png"), "images[3]: field 'id' is missing"),
        (drop_in("images", 1, "id"), "images[1]: field 'id' is missing"),
        (drop_in("images", 1, "file_name"), "images[1]: field 'file_name' is missing"),
        (set_in("images", 1, "file_name", None), "images[1].file_name: expected str"),
        (set_in("images", 1, "id", [7]), "images[1].id: expected int"),
        (drop_in("annotations", 2, "id"), "annotations[2]: field 'id' is missing"),
        (drop_in("annotations", 2, "image_id"), "annotations[2]: field 'image_id' is missing"),
        (drop_in("annotations", 2, "caption"), "annotations[2]: field 'caption' is missing"),
        (set_in("annotations", 2, "image_id", 12345), "annotations[2].image_id: 12345 is not among the images"),
        (set_in("annotations", 2, "image_id", [12]), "annotations[2].image_id: expected int"),
        (set_in("annotations", 2, "caption", " \n"), "annotations[2].caption: empty caption"),
        (set_in("annotations", 2, "caption", None), "annotations[2].caption: expected a caption"),
        (set_in("annotations", 2, "caption", "word " * 300), "annotations[2].caption: a caption of 300 words"),
    ],
)
def test_coco_bad_fields_are_named(coco, change, said):
    path = coco / "annotations/captions_train2017.json"
    edited(path, change)
    assert refusal(lambda: Coco(str(coco))("train")).startswith(f"{path}: {said}")


@pytest.mark.parametrize("source", [Coco, Karpathy])
def test_broken_json_is_named_with_its_line(coco, karpathy, source):
    root, path = {
        Coco: (coco, coco / "annotations/captions_train2017.json"),
        Karpathy: (karpathy, karpathy / "dataset_coco.json"),
    }[source]
    lines = json.dumps(json.loads(path.read_text()), indent=1).split("\n")
    path.write_text("\n".join(lines[:7]))
    assert refusal(lambda: source(str(root))("train")).startswith(f"{path}: line 7: broken JSON")
    path.write_text("")
    assert refusal(lambda: source(str(root))("train")).startswith(f"{path}: line 1: broken JSON")
    path.unlink()
    assert refusal(lambda: source(str(root))("train")).startswith(f"{path}: ")


# Karpathy


@pytest.mark.parametrize(
    ("split", "restval", "names"),
    [
        ("train", True, ["a.png", "b.png", "c.png"]),
        ("train", False, ["a.png", "c.png"]),
        ("val", True, ["d.png"]),
        ("test", True, ["e.png"]),
    ],
)
def test_karpathy_splits(karpathy, split, restval, names):
    source = Karpathy(str(karpathy), restval=restval)
    assert isinstance(source, CaptionSource)
    rows = source(split)
    assert [row.path.name for row in rows] == names
    assert all(row.path.is_file() for row in rows)
    listed = {image["filename"]: image for image in karpathy_json()["images"]}
    for name, row in zip(names, rows, strict=True):
        assert row.image_id == listed[name]["cocoid"]
        assert row.captions == tuple({**TRAIN, **VAL}[name])


def test_karpathy_flickr_files_have_names_for_ids(karpathy):
    path = karpathy / "dataset_flickr8k.json"
    data = karpathy_json()
    for image in data["images"]:
        del image["cocoid"], image["filepath"]
    path.write_text(json.dumps(data))
    rows = Karpathy(str(karpathy), file=path.name, images="train2014")("train")
    assert [row.image_id for row in rows] == ["a.png", "b.png", "c.png"]
    assert rows[0].path == karpathy / "train2014/a.png"
    assert rows[0].path.is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: [data], "expected an object with 'images'"),
        (lambda data: data.__delitem__("images"), "field 'images' is missing"),
        (drop_in("images", 2, "split"), "images[2]: field 'split' is missing"),
        (drop_in("images", 2, "filename"), "images[2]: field 'filename' is missing"),
        (drop_in("images", 2, "sentences"), "images[2]: field 'sentences' is missing"),
        (set_in("images", 2, "sentences", None), "images[2].sentences: expected list"),
        (set_in("images", 2, "sentences", [{"tokens": []}]), "images[2].sentences[0]: field 'raw' is missing"),
        (set_in("images", 2, "sentences", ["text"]), "images[2].sentences[0]: field 'raw' is missing"),
        (set_in("images", 2, "sentences", [{"raw": "ok"}, {"raw": ""}]), "images[2].sentences[1].raw: empty caption"),
        (set_in("images", 2, "sentences", [{"raw": 3}]), "images[2].sentences[0].raw: expected a caption"),
        (set_in("images", 2, "sentences", [{"raw": "a " * 300}]), "images[2].sentences[0].raw: a caption of 300 words"),
    ],
)
def test_karpathy_bad_fields_are_named(karpathy, change, said):
    path = karpathy / "dataset_coco.json"
    edited(path, change)
    assert refusal(lambda: Karpathy(str(karpathy))("train")).startswith(f"{path}: {said}")


def test_karpathy_unknown_splits_are_named(karpathy):
    path = karpathy / "dataset_coco.json"
    assert refusal(lambda: Karpathy(str(karpathy))("tset")) == f"{path}: no image of split 'tset'"


# the data module


def test_all_missing_images_are_in_one_error(flickr, encoder):
    for name in ("a.png", "c.png"):
        (flickr / "Images" / name).unlink()
    message = refusal(lambda: module(flickr, encoder).setup("fit"))
    assert message == f"{flickr / 'Images'}: 2 annotated images missing: a.png, c.png"


def test_images_missing_from_several_folders_are_told_apart(karpathy, encoder):
    (karpathy / "train2014/a.png").unlink()
    (karpathy / "val2014/b.png").unlink()
    message = refusal(lambda: module(karpathy, encoder, Karpathy).setup("fit"))
    assert message == f"{karpathy}: 2 annotated images missing: train2014/a.png, val2014/b.png"


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_a_broken_image_is_named(flickr, encoder, tmp_path, damage, cached):
    path = flickr / "Images/b.png"
    path.write_bytes(path.read_bytes()[:-200] if damage == "truncated" else b"<html>404</html>")
    data = module(flickr, encoder, cache=str(tmp_path / "cache") if cached else None)

    def read():
        data.setup("fit")
        return list(data.train_dataloader())

    assert refusal(read).startswith(f"{path}: {'corrupt or truncated' if damage == 'truncated' else 'not an image'}")


def test_the_vocabulary_comes_from_the_training_captions_alone(flickr, encoder):
    data = module(flickr, encoder)
    data.setup("fit")
    words = Counter(word for all in TRAIN.values() for caption in all for word in split_caption(caption))
    assert set(data.vocabulary.tokens) - set(data.vocabulary.specials) == set(words)
    assert "zebra" not in words
    (zebra,) = data.dataset("val").ids[0]
    assert zebra == [data.vocabulary.ids["a"], data.vocabulary.unknown]


@pytest.mark.parametrize("min_frequency", [1, 2, 4])
def test_rare_words_become_unknown(flickr, encoder, min_frequency):
    vocabulary = module(flickr, encoder, min_frequency=min_frequency).build_vocabulary()
    words = Counter(word for all in TRAIN.values() for caption in all for word in split_caption(caption))
    kept = {word for word, count in words.items() if count >= min_frequency}
    assert kept
    assert set(vocabulary.tokens) - set(vocabulary.specials) == kept


def test_a_batch_is_pictures_with_shifted_captions(flickr, encoder):
    data = module(flickr, encoder, batch_size=2, captions_per_image=5)
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


def test_more_captions_are_drawn_anew_in_training(flickr, encoder):
    data = module(flickr, encoder, captions_per_image=2).dataset("train")

    def draw(epoch: int) -> str:
        data.set_epoch(epoch)
        assert len(data[2][2]) == 2
        return str(sorted(data[2][2]))

    drawn = [draw(epoch) for epoch in range(200)]
    assert len(set(drawn)) == 15  # every pair out of six
    torch.rand(1)  # the global generator must not matter
    assert [draw(epoch) for epoch in range(200)] == drawn


def test_a_view_of_each_picture_is_drawn_anew_in_training(flickr, encoder):
    data = module(flickr, encoder, augmented_views=4)
    train = data.dataset("train")
    name = list(TRAIN)[1]
    image = open_image(flickr / "Images" / name)
    views = [to_pixels(augment(image, view, name), SIZE) for view in range(4)]

    def draw(epoch: int) -> int:
        train.set_epoch(epoch)
        (number,) = (i for i, view in enumerate(views) if torch.equal(view, train[1][1]))
        return number

    drawn = [draw(epoch) for epoch in range(400)]
    assert all(70 < drawn.count(view) < 130 for view in range(4))  # 100 expected; three deviations are 26
    torch.rand(1)  # the global generator must not matter
    assert [draw(epoch) for epoch in range(400)] == drawn
    for epoch in range(20):
        data.dataset("val").set_epoch(epoch)
        path = flickr / "Images" / next(iter(VAL))
        assert torch.equal(data.dataset("val")[0][1], to_pixels(open_image(path), SIZE))


def test_evaluation_always_scores_the_same_captions(flickr, encoder):
    data = module(flickr, encoder, captions_per_image=2)
    first = data.dataset("val")[1][2]
    assert [data.vocabulary.decode(ids) for ids in first] == ["a dog", "a dog"]
    assert all(data.dataset("val")[1][2] == first for _ in range(20))
    assert data.references("val")[1] == tuple(VAL["e.png"])  # all of them are references


def test_long_training_captions_are_cut_and_counted(flickr, encoder, caplog):
    path = flickr / "Flickr8k.token.txt"
    long = {"b.png": [30, 26, 25, LONGEST_CAPTION], "d.png": [40]}
    lines = [f"{name}#{9 + i}\t{'cat ' * n}" for name, lengths in long.items() for i, n in enumerate(lengths)]
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    data = module(flickr, encoder, captions_per_image=5, max_length=25)
    with caplog.at_level(logging.INFO, "attendgen"):
        data.setup("fit")
    assert [record.getMessage() for record in caplog.records] == ["3 training captions cut to 25 words"]
    lengths = [len(ids) for ids in data.dataset("train").ids[1]]
    assert lengths == [3, 25, 25, 25, 25]
    assert len(data.dataset("val").ids[0][1]) == 40  # what is evaluated stays whole


def test_nothing_is_logged_when_nothing_is_cut(flickr, encoder, caplog):
    with caplog.at_level(logging.INFO, "attendgen"):
        module(flickr, encoder).setup("fit")
    assert not caplog.records


@torch.no_grad()
def test_cached_features_are_the_encoders_output(flickr, encoder, tmp_path):
    data = module(flickr, encoder, cache=str(tmp_path / "cache"), batch_size=2)
    data.setup("fit")
    for loader, captions in ((data.train_dataloader(), TRAIN), (data.val_dataloader(), VAL)):
        seen = 0
        for batch in loader:
            paths = [flickr / "Images" / list(captions)[index] for index in batch.index.tolist()]
            pixels = torch.stack([to_pixels(open_image(path), SIZE) for path in paths])
            exact = encoder(pixels.to(encoder.mean.device)).cpu()
            torch.testing.assert_close(batch.images, exact, rtol=2e-3, atol=2e-3)
            assert exact.std() > 0.02
            seen += len(paths)
        assert seen == len(captions)


def test_neighbours_are_training_pictures_with_all_their_captions(flickr, encoder, tmp_path):
    shutil.copy(flickr / "Images" / "c.png", flickr / "Images" / "d.png")  # a picture of val is one of training
    data = module(flickr, encoder, cache=str(tmp_path / "cache"), captions_per_image=2)
    vocabulary = data.build_vocabulary()
    with torch.no_grad():
        annotations = encoder(torch.stack([to_pixels(open_image(flickr / "Images" / "d.png"), SIZE)]))
    said = [vocabulary.decode(ids) for ids in data.neighbours(1)(annotations)[0].tolist()]
    assert said == [vocabulary.decode(vocabulary.encode(caption)) for caption in TRAIN["c.png"]]
    assert "there are 3 training pictures" in refusal(lambda: data.neighbours(4))
    data.eval_split = "train"
    assert "choose another split" in refusal(lambda: data.neighbours(1))
    data = module(flickr, encoder, cache=None)
    data.build_vocabulary()
    assert "set data.cache=DIR" in refusal(lambda: data.neighbours(1))


def test_flickr_images_go_by_name_and_coco_images_by_number(flickr, coco, encoder):
    data = module(flickr, encoder)
    assert data.image_ids("val") == data.image_ids("dev") == list(VAL)
    assert data.references("val") == {i: tuple(captions) for i, captions in enumerate(VAL.values())}
    numbered = module(coco, encoder, Coco)
    ids = {image["id"]: image["file_name"] for image in coco_json(VAL)["images"]}
    assert numbered.image_ids("val") == sorted(ids)
    assert numbered.references("val") == {i: tuple(VAL[ids[number]]) for i, number in enumerate(sorted(ids))}


def test_dev_and_val_name_the_same_split(karpathy, encoder):
    data = module(karpathy, encoder, Karpathy)
    assert data.references("dev") == data.references("val") == {0: tuple(VAL["d.png"])}


def test_limit_keeps_the_first_pictures(flickr, encoder):
    data = module(flickr, encoder, max_samples=1)
    data.setup("fit")
    assert data.image_ids("train") == ["a.png"]
    assert len(data.dataset("val")) == 1


def test_real_coco(shared, encoder, tmp_path):
    root = shared / "data/coco_mini"
    raw = json.loads((root / "annotations/captions_val2017.json").read_text())
    data = module(root, encoder, partial(Coco, year=2017), cache=str(tmp_path), captions_per_image=5)
    batches = list(data.loader("val"))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(len(raw["images"])))
    assert batches[0].images.shape == (32, (SIZE // 2) ** 2, 4)
    ids = data.image_ids("val")
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


def test_real_flickr8k(shared):
    root = shared / "data/flickr8k"
    names = (root / "Flickr_8k.devImages.txt").read_text().split()
    rows = Flickr8k(str(root))("val")
    assert [row.image_id for row in rows] == names
    assert {len(row.captions) for row in rows} == {5}
    assert all(row.path.is_file() for row in rows)
