"""The pointing game counts where the largest weight falls, against chance and the center."""

import json
from pathlib import Path

import numpy as np
import pytest

from attendgen.data.captions.boxes import Box
from attendgen.data.captions.shapes import COLORS, SHAPES, SIZES
from attendgen.evaluation.evaluate import evaluate
from attendgen.evaluation.options import take_boxes
from attendgen.evaluation.pointing import PointingGame, link_words, measure
from attendgen.visualization.regions import Boxes, Grid
from helpers.attention_pages import make_caption
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import SharedRuns

SHOWN = {*COLORS, *SIZES, *SHAPES}  # words of drawn images that have boxes; any image may lack the one that is written
WHOLE, CORNER = Box(0, 0, 1, 1), Box(0, 0, 0.4, 0.4)


def test_each_word_is_compared_with_its_boxes() -> None:
    game = PointingGame({"7": {"dog": [CORNER], "big": [WHOLE], "cat": [CORNER]}}, [3, 7], lambda index: Grid(3, 3))
    game.add(0, make_caption("a dog", [0, 1]))  # of an image without boxes
    assert game.compute() == {"pointing_words": 0}
    game.add(1, make_caption("a big dog", [4, 4, 0]))
    game.add(1, make_caption("a dog", [0, 5]))
    # big looks at the center of the whole; one of two dogs looks at the corner, one cell of nine
    expected = {"pointing": 2 / 3, "pointing_chance": (1 + 2 / 9) / 3, "pointing_center": 1 / 3}
    expected |= {"pointing_weight": (1 + 0.68 + 0.04) / 3, "pointing_words": 3}
    assert game.compute() == pytest.approx(expected)


def test_chance_is_what_random_weights_hit() -> None:
    random = np.random.default_rng(0)
    boxes = [Box(0.1, 0.3, 0.7, 0.8)]
    looked = [measure(random.random(12), boxes, Grid(3, 4)) for _ in range(600)]
    assert np.mean([found.hit for found in looked]) == pytest.approx(looked[0].chance, abs=0.06)


def test_a_box_smaller_than_a_cell_has_the_cell_that_holds_its_center() -> None:
    tiny = [Box(0.05, 0.05, 0.1, 0.1)]
    assert measure(np.eye(4)[0], tiny, Grid(2, 2)) == (1, 0.25, 0.25, 1)
    assert measure(np.eye(4)[3], tiny, Grid(2, 2)) == (0, 0.25, 0.25, 0)


def test_regions_without_a_place_never_hit() -> None:
    assert measure(np.array([0.9, 0.1, 0.0, 0.0, 0.0]), [WHOLE], Grid(2, 2, leading=1))[0] == 0
    assert measure(np.array([0.1, 0.9, 0.0, 0.0, 0.0]), [WHOLE], Grid(2, 2, leading=1)) == (1, 1, 1, 0.9)
    padded = np.array([0.2, 0.1, 0.7])  # two boxes, and a region of padding
    corners = Boxes(np.array([[0.0, 0.0, 0.2, 0.2], [0.4, 0.4, 0.6, 0.6]]))
    assert measure(padded, [CORNER], corners) == (0, 0.5, 0, 0.2)


def test_the_longer_of_two_phrases_counts() -> None:
    result = make_caption("a hot dog and a dog", [0] * 6)
    words = {"dog": [CORNER], "hot dog": [WHOLE]}
    assert link_words(result, words) == [(2, [WHOLE]), (5, [CORNER])]


def test_evaluate_compares_with_a_file(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no Java
    run, file, out = runs("shapes"), tmp_path / "boxes.json", tmp_path / "out"
    own = attendgen("evaluate", run, "attention=own", "decoding.min_length=3", "--tag", "", "--out", out)
    assert own.code == 0, own.err
    metrics = json.loads((out / "metrics_val.json").read_text())
    outputs = json.loads((out / "captions_val.json").read_text())
    assert metrics["pointing_words"] <= sum(word in SHOWN for o in outputs for word in o["caption"].split())
    words = {word for output in outputs for word in output["caption"].split()}
    file.write_text(json.dumps({output["image_id"]: {word: [WHOLE] for word in words} for output in outputs}))
    found = evaluate(run, boxes=file, out=tmp_path / "python", min_length=3)
    assert found["pointing"] == found["pointing_chance"] == 1
    assert found["pointing_words"] == sum(len(output["caption"].split()) for output in outputs)
    assert found.settings["boxes"] == "boxes.json"
    file.write_text(json.dumps({"elsewhere.jpg": {"dog": [WHOLE]}}))
    mistake = attendgen("evaluate", run, f"attention={file}", "--out", out)
    assert_mistake(mistake, "none of its images is in the split", "elsewhere.jpg", "00000.png")


def test_models_and_data_without_boxes_are_refused(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    options = ("attention=own", "--out", tmp_path)
    assert_mistake(attendgen("evaluate", runs("toy_chat"), *options), "attention=own", "only captioners")
    assert_mistake(attendgen("evaluate", runs("flickr8k_soft"), *options), "attention=own", "Flickr8k", "FILE.json")


def test_the_boxes_are_no_change_of_the_config() -> None:
    assert take_boxes(["a.b=1", "attention=boxes.json"]) == ("boxes.json", ["a.b=1"])
    assert take_boxes(["a.b=1"]) == (None, ["a.b=1"])
    assert "one value" in refusal(take_boxes, ["attention=a", "attention=b"])
    assert "one value" in refusal(take_boxes, ["attention="])
