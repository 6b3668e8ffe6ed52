"""Boxes of words: links of the user's own, COCO's instances, and what is wrong with a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from attendgen.data.captions.boxes import Box, list_words, read_word_boxes
from attendgen.data.captions.coco import Coco
from helpers.errors import refusal

INSTANCES: dict[str, Any] = {
    "images": [{"id": 7, "width": 200, "height": 100}, {"id": "b", "width": 10, "height": 10}],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "fire hydrant"}],
    "annotations": [
        {"image_id": 7, "category_id": 2, "bbox": [20, 10, 100, 50]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 200, 100]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 1]},
    ],
}


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_links_are_read_in_lower_case(tmp_path: Path) -> None:
    path = write(tmp_path / "boxes.json", {"a.jpg": {"Dog": [[0, 0.25, 0.5, 1], [0.5, 0, 1, 1]]}, "b.jpg": {}})
    links = read_word_boxes(path)
    assert links == {"a.jpg": {"dog": [Box(0, 0.25, 0.5, 1), Box(0.5, 0, 1, 1)]}, "b.jpg": {}}


def test_instances_are_shares_under_the_words_of_their_category(tmp_path: Path) -> None:
    links = read_word_boxes(write(tmp_path / "instances.json", INSTANCES))
    assert links.keys() == {"7"}
    assert links["7"]["fire hydrant"] == links["7"]["fire hydrants"] == [Box(0.1, 0.1, 0.6, 0.6)]
    assert links["7"]["woman"] == links["7"]["person"] == [Box(0, 0, 1, 1), Box(0, 0, 0.01, 0.01)]


def test_coco_has_boxes_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "instances_val2017.json", INSTANCES)
    assert "man" in Coco(str(tmp_path)).locate_words("val")["7"]


def test_words_of_a_category() -> None:
    assert list_words("bus") == ["bus", "buses"]
    assert {"couch", "couches", "sofa", "sofas"} == set(list_words("couch"))
    assert "teddies" in list_words("teddy")
    assert "toys" in list_words("toy")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ([], "expected an object"),
        ({"a.jpg": ["dog"]}, "a.jpg: expected an object of words, found list"),
        ({"a.jpg": {"dog": []}}, "a.jpg: dog: expected a list of boxes"),
        ({"a.jpg": {"dog": [[10, 20, 30, 40]]}}, "[10, 20, 30, 40]: expected left, top, right and bottom as shares"),
        ({"a.jpg": {"dog": [[0.5, 0, 0.5, 1]]}}, "expected left, top"),
        ({"a.jpg": {"dog": [["0", 0, 1, 1]]}}, "expected left, top"),
        ({**INSTANCES, "images": None}, "field 'images' is missing or not a list"),
        ({**INSTANCES, "images": [{"id": 7, "width": 0, "height": 3}]}, "annotations[0]: not one of COCO's instances"),
        (
            {**INSTANCES, "categories": [{"id": 1}]},
            "categories[0]: not one of COCO's instances: field 'name' is missing",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, data: Any, part: str) -> None:
    path = write(tmp_path / "boxes.json", data)
    message = refusal(read_word_boxes, path)
    assert message.startswith(str(path))
    assert part in message
