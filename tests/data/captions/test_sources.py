import json

import pytest

from attendgen.data.captions.coco import Coco, Karpathy
from attendgen.data.captions.flickr import Flickr8k
from attendgen.data.captions.sources import CaptionedImage, CaptionSource
from attendgen.utils.errors import UserError
from helpers.caption_sets import SPLITS, TRAIN, VAL, coco_json, edit_json, karpathy_json
from helpers.errors import refusal


def test_flickr8k_reads_the_images_of_its_lists(flickr):
    source = Flickr8k(str(flickr))
    assert isinstance(source, CaptionSource)
    for split, captions in SPLITS.items():
        expected = [CaptionedImage(name, flickr / "Images" / name, tuple(all)) for name, all in captions.items()]
        assert source(split) == expected
    assert source("dev") == source("val")


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_flickr8k_accepts_any_line_end_and_byte_order_mark(flickr, before):
    rows = Flickr8k(str(flickr))("train")
    for path in flickr.glob("*.txt"):
        path.write_bytes(before + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert Flickr8k(str(flickr))("train") == rows


def test_flickr8k_keeps_unicode_line_separators_in_a_caption(flickr):
    path = flickr / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace("A cat sleeps", "A cat\u2028sleeps"), encoding="utf-8")
    assert Flickr8k(str(flickr))("train")[1].captions == ("A cat\u2028sleeps .",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png#9 no tab", "expected 'IMAGE#NUMBER<tab>CAPTION'"),
        ("a.png\tno number", "expected 'IMAGE#NUMBER<tab>CAPTION'"),
        ("a.png#9\t ", "(a.png#9): empty caption"),
    ],
    ids=["no tab", "no #", "empty"],
)
def test_flickr8k_refuses_a_bad_line_with_its_number(flickr, line, message):
    path = flickr / "Flickr8k.token.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]))
    found = refusal(lambda: Flickr8k(str(flickr))("train"))
    assert found.startswith(f"{path}: line 4")
    assert message in found


def test_flickr8k_refuses_images_without_a_caption(flickr):
    listing = flickr / "Flickr_8k.trainImages.txt"
    listing.write_text(listing.read_text() + "y.png\nz.png\n")
    message = refusal(lambda: Flickr8k(str(flickr))("train"))
    assert message.startswith(f"{flickr / 'Flickr8k.token.txt'}: no caption for 2 images of {listing.name}")
    assert message.endswith("y.png, z.png")


def test_flickr8k_refuses_empty_and_missing_files(flickr):
    listing = flickr / "Flickr_8k.trainImages.txt"
    listing.write_text("\n\n")
    assert refusal(lambda: Flickr8k(str(flickr))("train")).startswith(f"{listing}: empty; ")
    assert refusal(lambda: Flickr8k(str(flickr))("test")).startswith(f"{flickr / 'Flickr_8k.testImages.txt'}: ")
    (flickr / "Flickr8k.token.txt").unlink()
    assert refusal(lambda: Flickr8k(str(flickr))("val")).startswith(f"{flickr / 'Flickr8k.token.txt'}: ")


def test_flickr8k_refuses_a_file_that_is_not_utf8(flickr):
    path = flickr / "Flickr8k.token.txt"
    path.write_bytes(path.read_bytes() + b"a.png#9\tcaf\xe9\n")
    number = path.read_bytes().count(b"\n")
    assert refusal(lambda: Flickr8k(str(flickr))("train")).startswith(f"{path}: line {number}: not UTF-8")


def test_coco_reads_the_images_in_order_of_id(coco):
    source = Coco(str(coco))
    assert isinstance(source, CaptionSource)
    for split, captions in SPLITS.items():
        ids = {image["file_name"]: image["id"] for image in coco_json(captions)["images"]}
        names = sorted(captions, key=lambda name: ids[name])
        expected = [CaptionedImage(ids[name], coco / f"{split}2017" / name, tuple(captions[name])) for name in names]
        assert source(split) == expected
    with pytest.raises(UserError, match="not public"):
        source("test")


def test_coco_prints_nothing(coco, capsys):
    Coco(str(coco))("train")
    assert capsys.readouterr() == ("", "")


def test_coco_skips_images_without_captions(coco):
    path = coco / "annotations/captions_val2017.json"
    before = Coco(str(coco))("val")
    edit_json(path, lambda data: data["images"].append({"id": 1, "file_name": "bare.png"}))
    assert Coco(str(coco))("val") == before


def test_coco_year_is_part_of_the_file_name(coco):
    assert "captions_train2014.json" in refusal(lambda: Coco(str(coco), 2014)("train"))


def set_in(where: str, index: int, field: str, value):
    return lambda data: data[where][index].__setitem__(field, value)


def drop_in(where: str, index: int, field: str):
    return lambda data: data[where][index].__delitem__(field)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [data], "expected an object with 'images' and 'annotations'"),
        (lambda data: "text", "expected an object with 'images' and 'annotations'"),
        (lambda data: data.__delitem__("images"), "field 'images' is missing"),
        (lambda data: data.__delitem__("annotations"), "field 'annotations' is missing"),
        (lambda data: {**data, "annotations": []}, "field 'annotations' is missing, empty or not a list"),
        (lambda data: {**data, "images": {"1": {}}}, "field 'images' is missing, empty or not a list"),
        (lambda data: data["images"].append("a.png"), "images[3]: field 'id' is missing"),
        (drop_in("images", 1, "id"), "images[1]: field 'id' is missing"),
        (drop_in("images", 1, "file_name"), "images[1]: field 'file_name' is missing"),
        (set_in("images", 1, "file_name", None), "images[1]: field 'file_name': expected str"),
        (set_in("images", 1, "id", [7]), "images[1]: field 'id': expected int"),
        (drop_in("annotations", 2, "image_id"), "annotations[2]: field 'image_id' is missing"),
        (drop_in("annotations", 2, "caption"), "annotations[2]: field 'caption' is missing"),
        (set_in("annotations", 2, "image_id", 12345), "annotations[2]: image_id 12345 is not among the images"),
        (set_in("annotations", 2, "image_id", [12]), "annotations[2]: field 'image_id': expected int"),
        (set_in("annotations", 2, "caption", " \n"), "annotations[2]: empty caption"),
        (set_in("annotations", 2, "caption", None), "annotations[2]: expected a caption"),
    ],
)
def test_coco_refuses_a_bad_field_with_its_place(coco, change, message):
    path = coco / "annotations/captions_train2017.json"
    edit_json(path, change)
    assert refusal(lambda: Coco(str(coco))("train")).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("split", "restval", "names"),
    [
        ("train", True, ["a.png", "b.png", "c.png"]),
        ("train", False, ["a.png", "c.png"]),
        ("val", True, ["d.png"]),
        ("test", True, ["e.png"]),
    ],
)
def test_karpathy_reads_each_split(karpathy, split, restval, names):
    source = Karpathy(str(karpathy), restval=restval)
    assert isinstance(source, CaptionSource)
    rows = source(split)
    assert [row.path.name for row in rows] == names
    assert all(row.path.is_file() for row in rows)
    listed = {image["filename"]: image for image in karpathy_json()["images"]}
    for name, row in zip(names, rows, strict=True):
        assert row.image_id == listed[name]["cocoid"]
        assert row.captions == tuple({**TRAIN, **VAL}[name])


def test_karpathy_ids_without_cocoid_are_file_names(karpathy):
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
    ("change", "message"),
    [
        (lambda data: [data], "expected an object with 'images'"),
        (lambda data: data.__delitem__("images"), "field 'images' is missing"),
        (drop_in("images", 2, "split"), "images[2]: field 'split' is missing"),
        (drop_in("images", 2, "filename"), "images[2]: field 'filename' is missing"),
        (drop_in("images", 2, "sentences"), "images[2]: field 'sentences' is missing"),
        (set_in("images", 2, "sentences", None), "images[2]: field 'sentences': expected list"),
        (set_in("images", 2, "sentences", [{"tokens": []}]), "images[2].sentences[0]: field 'raw' is missing"),
        (set_in("images", 2, "sentences", ["text"]), "images[2].sentences[0]: field 'raw' is missing"),
        (set_in("images", 2, "sentences", [{"raw": "ok"}, {"raw": ""}]), "images[2].sentences[1]: empty caption"),
        (set_in("images", 2, "sentences", [{"raw": 3}]), "images[2].sentences[0]: expected a caption"),
    ],
)
def test_karpathy_refuses_a_bad_field_with_its_place(karpathy, change, message):
    path = karpathy / "dataset_coco.json"
    edit_json(path, change)
    assert refusal(lambda: Karpathy(str(karpathy))("train")).startswith(f"{path}: {message}")


def test_karpathy_refuses_an_unknown_split(karpathy):
    path = karpathy / "dataset_coco.json"
    assert refusal(lambda: Karpathy(str(karpathy))("tset")) == f"{path}: no image of split 'tset'"


@pytest.mark.parametrize("source", [Coco, Karpathy])
def test_broken_json_is_refused_with_its_line(coco, karpathy, source):
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


def test_flickr8k_reads_the_real_data_set(shared):
    root = shared / "data/flickr8k"
    names = (root / "Flickr_8k.devImages.txt").read_text().split()
    rows = Flickr8k(str(root))("val")
    assert [row.image_id for row in rows] == names
    assert {len(row.captions) for row in rows} == {5}
    assert all(row.path.is_file() for row in rows)


@pytest.mark.parametrize(("other", "refused"), [("b.jpg", True), ("a.jpg", False)])
def test_an_id_of_two_images_is_refused(tmp_path, other, refused):
    """A caption would belong to either."""
    images = [{"id": 3, "file_name": "a.jpg"}, {"id": "3", "file_name": other}]
    path = tmp_path / "annotations" / "captions_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": 3, "caption": "A dog"}]}))
    source = Coco(str(tmp_path))
    if refused:
        assert refusal(lambda: source("train")).startswith(f"{path}: images[1]: id 3 is that of a.jpg, and of b.jpg")
    else:
        assert [row.path.name for row in source("train")] == ["a.jpg"]


def test_half_a_character_in_a_caption_is_refused(tmp_path):
    path = tmp_path / "annotations" / "captions_train2017.json"
    path.parent.mkdir()
    rows = {"images": [{"id": 3, "file_name": "a.jpg"}], "annotations": [{"image_id": 3, "caption": "A \ud800 dog"}]}
    path.write_text(json.dumps(rows))
    message = refusal(lambda: Coco(str(tmp_path))("train"))
    assert message.startswith(f"{path}: annotations[0]: \\ud800 is half a character")
