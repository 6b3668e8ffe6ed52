"""Caption data sets as people have them: an example of each format, and its unusable rows."""

import json
import logging

import pytest

from attendgen.data import Coco, Flickr8k, FlickrCsv, JsonLines, TextCaps
from attendgen.data.bad_rows import BadRows
from attendgen.data.captions.sources import CaptionedImage, CaptionSource, choose_split, require_ratios
from helpers.errors import refusal

ALL = (100, 0, 0)  # all images are of the training split


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def captions_of(rows):
    return {row.path.name: row.captions for row in rows}


def test_flickr8k_s_table_has_commas_and_quotes(tmp_path):
    write(tmp_path / "captions.txt", 'image,caption\na.jpg,A dog runs .\nb.jpg,"Red , white"\na.jpg,"He said ""hi"""\n')
    (tmp_path / "Flicker8k_Dataset").mkdir()
    source = FlickrCsv(str(tmp_path), split_ratios=ALL)
    assert isinstance(source, CaptionSource)
    assert source("train") == [
        CaptionedImage("a.jpg", tmp_path / "Flicker8k_Dataset/a.jpg", ("A dog runs .", 'He said "hi"')),
        CaptionedImage("b.jpg", tmp_path / "Flicker8k_Dataset/b.jpg", ("Red , white",)),
    ]


def test_flickr30k_s_table_has_bars_of_which_one_is_lost(tmp_path):
    write(
        tmp_path / "results.csv",
        "image_name| comment_number| comment\na.jpg| 0| Two dogs .\na.jpg| 4   A dog | runs\nb.jpg| 0| A | B\n",
    )
    (tmp_path / "flickr30k_images").mkdir()
    rows = FlickrCsv(str(tmp_path), split_ratios=ALL)("train")
    assert captions_of(rows) == {"a.jpg": ("Two dogs .", "A dog | runs"), "b.jpg": ("A | B",)}
    assert rows[0].path.parent == tmp_path / "flickr30k_images"


def test_flickr30k_s_token_file_is_split_by_name(tmp_path):
    names = [f"{n}.jpg" for n in range(40)]
    write(tmp_path / "results_20130124.token", "".join(f"{name}#0\tA dog\n{name}#1\tTwo\n" for name in names))
    source = Flickr8k(str(tmp_path), tokens="results_20130124.token", lists=None, split_ratios=(50, 25, 25))
    found = {split: list(captions_of(source(split))) for split in ("train", "val", "test")}
    assert sorted([*found["train"], *found["val"], *found["test"]]) == sorted(names)
    assert all(choose_split(name, (50, 25, 25)) == split for split, own in found.items() for name in own)
    assert all(found.values())


def test_a_split_by_name_does_not_depend_on_the_other_names():
    names = [f"image {n}" for n in range(20_000)]
    shares = [sum(choose_split(name, (90, 5, 5)) == split for name in names) / len(names) for split in ("train", "val")]
    assert shares[0] == pytest.approx(0.9, abs=0.01)
    assert shares[1] == pytest.approx(0.05, abs=0.01)
    assert all(choose_split(name, (9, 0.5, 0.5)) == choose_split(name, (90, 5, 5)) for name in names[:100])


def test_another_layout_of_flickr8k_is_named(tmp_path):
    write(tmp_path / "captions.txt", "image,caption\na.jpg,A dog\n")
    assert refusal(lambda: Flickr8k(str(tmp_path))("train")).endswith(
        "captions.txt is there; use data/source=flickr_csv"
    )


def vizwiz(*annotations):
    images = [{"id": n, "file_name": f"VizWiz_train_{n}.jpg"} for n in range(3)]
    return json.dumps({"images": images, "annotations": list(annotations)})


def test_vizwiz_s_rejected_captions_are_left_out(tmp_path):
    rows = [
        {"image_id": 0, "caption": "A mug", "is_rejected": False, "is_precanned": False},
        {"image_id": 0, "caption": "spam", "is_rejected": True, "is_precanned": False},
        {"image_id": 2, "caption": "Quality issues", "is_rejected": False, "is_precanned": True},
    ]
    write(tmp_path / "annotations/train.json", vizwiz(*rows))
    rejected = ["is_rejected", "is_precanned"]
    source = Coco(str(tmp_path), annotations="annotations/{split}.json", images="{split}", rejected=rejected)
    assert source("train") == [CaptionedImage(0, tmp_path / "train/VizWiz_train_0.jpg", ("A mug",))]


def test_nocaps_has_file_names_of_its_own(tmp_path):
    write(tmp_path / "nocaps_val_4500_captions.json", vizwiz({"image_id": 1, "caption": "A", "id": 7}))
    source = Coco(str(tmp_path), annotations="nocaps_{split}_4500_captions.json", images="{split}")
    assert source("val") == [CaptionedImage(1, tmp_path / "val/VizWiz_train_1.jpg", ("A",))]


@pytest.mark.parametrize(("image_id", "named"), [(7, "7"), ("7", 7), ("007", "007")])
def test_annotations_need_no_id_and_images_are_found_by_theirs_as_it_is_written(tmp_path, image_id, named):
    data = {"images": [{"id": image_id, "file_name": "a.jpg"}], "annotations": [{"image_id": named, "caption": "A"}]}
    write(tmp_path / "annotations/captions_val2014.json", json.dumps(data))
    assert [row.image_id for row in Coco(str(tmp_path), year=2014)("val")] == [image_id]


def test_ids_that_never_match_are_told_once(tmp_path):
    annotations = [{"image_id": f"a{n}.jpg", "caption": "A"} for n in range(9)]
    path = write(tmp_path / "annotations/captions_val2017.json", vizwiz(*annotations))
    message = refusal(lambda: Coco(str(tmp_path))("val"))
    assert message == (
        f"{path}: no annotation names one of the images: the first says image_id a0.jpg, the first image has the id 0"
    )


def test_textcaps_has_a_caption_per_row_and_all_of_the_image(tmp_path):
    rows = [
        {"image_id": "3a", "caption_str": "A sign", "reference_strs": ["A sign", "A red sign"]},
        {"image_id": "3a", "caption_str": "A red sign", "reference_strs": ["A sign", "A red sign"]},
        {"image_id": "4b", "caption_str": "A book"},
    ]
    write(tmp_path / "TextCaps_0.1_val.json", json.dumps({"data": rows}))
    assert TextCaps(str(tmp_path))("val") == [
        CaptionedImage("3a", tmp_path / "train_images/3a.jpg", ("A sign", "A red sign")),
        CaptionedImage("4b", tmp_path / "train_images/4b.jpg", ("A book",)),
    ]


LINES = [
    {"image": "a.jpg", "captions": ["A dog", "Un chien"], "split": "train"},
    {"image": "b.jpg", "captions": ["A cat"], "split": "dev"},
    {"image": "sub/c.jpg", "caption": "A bird", "split": "train"},
]


def json_lines(path, rows):
    return write(path, "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")


def test_json_lines_name_their_splits(tmp_path):
    json_lines(tmp_path / "captions.jsonl", LINES)
    source = JsonLines(str(tmp_path))
    assert captions_of(source("train")) == {"a.jpg": ("A dog", "Un chien"), "c.jpg": ("A bird",)}
    assert source("val") == [CaptionedImage("b.jpg", tmp_path / "b.jpg", ("A cat",))]
    assert "no image of split 'test'" in refusal(lambda: source("test"))


def test_json_lines_have_splits_in_all_lines_or_in_none(tmp_path):
    rows = [{key: row[key] for key in row if key != "split"} for row in LINES]
    json_lines(tmp_path / "captions.jsonl", rows)
    assert len(JsonLines(str(tmp_path), split_ratios=ALL)("train")) == 3
    path = json_lines(tmp_path / "captions.jsonl", [*rows[:2], LINES[2]])
    assert refusal(lambda: JsonLines(str(tmp_path))("train")).startswith(f"{path}: 2 of 3 lines have no 'split'")


def test_lines_of_one_image_are_joined(tmp_path):
    """One caption per line is a usual form, and an image's captions are its references together."""
    lines = [{"image": f"{n}.jpg", "caption": f"{n} {k}"} for k in range(3) for n in range(2)]
    json_lines(tmp_path / "captions.jsonl", lines)
    rows = JsonLines(str(tmp_path), split_ratios=ALL)("train")
    assert captions_of(rows) == {f"{n}.jpg": tuple(f"{n} {k}" for k in range(3)) for n in range(2)}
    assert len(rows) == 2


def test_a_quote_that_is_not_closed_takes_no_other_row_with_it(tmp_path, caplog):
    rows = ["image,caption", "a.jpg,A dog", 'b.jpg,"A cat', "c.jpg,A bird", 'd.jpg,"A "big" cow"', "e.jpg,red, blue"]
    path = write(tmp_path / "captions.txt", "\n".join([*rows, 'f.jpg,"A fish, say ""it"""', ""]))
    message = refusal(lambda: FlickrCsv(str(tmp_path), split_ratios=ALL)("train"))
    broken = "broken CSV: a quote is not closed or not doubled, or a cell has over 131,072 characters"
    assert message.startswith(f"{path}: line 3: {broken}; line 5: {broken}; line 6: 3 cells, but the header has 2")
    kept = FlickrCsv(str(tmp_path), split_ratios=ALL, skip_bad=True)("train")
    assert captions_of(kept) == {"a.jpg": ("A dog",), "c.jpg": ("A bird",), "f.jpg": ('A fish, say "it"',)}
    assert "3 unusable rows left out" in caplog.text


@pytest.mark.parametrize("line", ["a.jpg,A dog", "a.jpg|0|A dog"])
def test_a_table_without_a_header_is_refused(tmp_path, line):
    path = write(tmp_path / "captions.txt", f"{line}\n{line}\n")
    write(tmp_path / "Images" / "a.jpg", "")
    assert refusal(lambda: FlickrCsv(str(tmp_path), split_ratios=ALL)("train")).startswith(f"{path}: line 1: an image")


BAD_LINES = {
    "{": "broken JSON",
    "[1]": "expected a JSON object, found list",
    '{"caption": "x"}': "field 'image' is missing",
    '{"image": " ", "caption": "x"}': "field 'image': empty",
    '{"image": "x.jpg", "caption": "a", "caption": "b"}': "field 'caption' occurs twice; keep one",
    '{"image": "x.jpg", "caption": "a", "score": NaN}': "broken JSON: NaN is no value",
    '{"image": "x\\ud800.jpg", "caption": "a"}': "\\ud800 is half a character",
    '{"image": "a.jpg", "caption": "a", "split": "val"}': "field 'split': 'val', but an earlier line has a.jpg",
    '{"image": 3, "captions": ["x"]}': "field 'image': expected str, found int",
    '{"image": "x.jpg"}': "field 'captions': expected a list",
    '{"image": "x.jpg", "captions": []}': "field 'captions': expected a list",
    '{"image": "x.jpg", "captions": ["a", " "]}': "empty caption",
    '{"image": "x.jpg", "captions": [null]}': "expected a caption, found NoneType",
    '{"image": "x.jpg", "captions": ["a"], "split": "tset"}': "field 'split': 'tset'",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_an_unusable_line_is_named_or_left_out(tmp_path, caplog, line):
    path = json_lines(tmp_path / "captions.jsonl", [LINES[0], line, LINES[2]])
    message = refusal(lambda: JsonLines(str(tmp_path))("train"))
    assert message.startswith(f"{path}: line 2: {BAD_LINES[line]}")
    assert message.endswith("data.skip_bad=true leaves it out")
    with caplog.at_level(logging.WARNING):
        assert list(captions_of(JsonLines(str(tmp_path), skip_bad=True)("train"))) == ["a.jpg", "c.jpg"]
    assert "1 unusable rows left out: line 2" in caplog.text


def test_five_unusable_rows_are_named_and_the_others_counted(tmp_path):
    bad = BadRows(tmp_path / "x")
    for number in range(8):
        bad.add(f"line {number}", "empty caption")
    assert refusal(bad.finish) == (
        f"{tmp_path / 'x'}: {'; '.join(f'line {n}: empty caption' for n in range(5))}; and 3 more; "
        "data.skip_bad=true leaves these 8 rows out"
    )


@pytest.mark.parametrize("ratios", [[90, 10], [0, 50, 50], [90, -5, 15], "abc", [90, "5", 5], [True, 1, 1]])
def test_shares_that_are_no_split_are_refused(ratios):
    assert "expected three numbers" in refusal(lambda: require_ratios(ratios))


def test_a_table_in_another_encoding(tmp_path):
    text = "image,caption\n" + "".join(
        f"{n}.jpg,Une fille près de la forêt à côté d'un garçon âgé\n" for n in range(20)
    )
    path = write(tmp_path / "captions.txt", text, "cp1252")
    message = refusal(lambda: FlickrCsv(str(tmp_path), split_ratios=ALL)("train"))
    assert message.startswith(f"{path}: line 2: not UTF-8")
    assert "data.encoding=cp1252" in message
    rows = FlickrCsv(str(tmp_path), split_ratios=ALL, encoding="cp1252")("train")
    assert rows[0].captions == ("Une fille près de la forêt à côté d'un garçon âgé",)
