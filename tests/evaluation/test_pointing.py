"""The pointing game counts where the largest weight falls, against chance and the center."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attendgen.data.captions.boxes import Box
from attendgen.data.captions.shapes import COLORS, SHAPES, SIZES
from attendgen.data.module import BaseDataModule
from attendgen.evaluation.evaluate import evaluate
from attendgen.evaluation.options import take_boxes
from attendgen.evaluation.pointing import PointingGame, link_words, make_pointing_game, measure
from attendgen.inference.load import load
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.visualization.regions import Boxes, Grid
from helpers.attention_pages import make_caption
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import SharedRuns

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


def test_evaluate_compares_with_a_file(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run, file, options = runs("flickr8k_soft"), tmp_path / "boxes.json", ("--out", tmp_path, "decoding.min_length=3")
    file.write_text(json.dumps({"elsewhere.jpg": {"dog": [WHOLE]}}))
    mistake = attendgen("evaluate", run, f"attention={file}", *options)
    assert_mistake(mistake, "none of its images is in the split", "elsewhere.jpg", "purple.jpg")
    words = load(run).vocabulary.tokens
    file.write_text(json.dumps({"purple.jpg": {word: [WHOLE] for word in words}, "none.jpg": {}}))
    outcome = attendgen("evaluate", run, f"attention={file}", "--tag", "boxes", *options)
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics_val.boxes.json").read_text())
    captions = {
        row["image_id"]: row["caption"] for row in json.loads((tmp_path / "captions_val.boxes.json").read_text())
    }
    assert metrics["pointing_words"] >= len(captions["purple.jpg"].split()) >= 3  # <eos> looks, too
    assert metrics["pointing"] == metrics["pointing_chance"] == 1
    assert metrics["pointing_weight"] == pytest.approx(1, abs=1e-4)
    assert json.loads((tmp_path / "settings_val.boxes.json").read_text())["boxes"] == "boxes.json"


@pytest.mark.slow
def test_drawn_shapes_have_boxes_of_their_own(runs: SharedRuns, tmp_path: Path) -> None:
    scores = evaluate(runs("shapes"), boxes="own", out=tmp_path, min_length=3)
    shown = {*COLORS, *SIZES, *SHAPES}  # an image may lack what the caption names
    assert scores["pointing_words"] <= sum(word in shown for text in scores.outputs for word in text.split())


def test_models_and_data_without_boxes_are_refused() -> None:
    class Nothing:
        pass

    data: Any = BaseDataModule()
    data.source = Nothing()
    task: Any = CaptioningTask.__new__(CaptioningTask)
    torch.nn.Module.__init__(task)
    task.model = None
    message = refusal(make_pointing_game, task, data, "own")
    assert message == "attention=own: Nothing has no boxes of its own; give attention=FILE.json"
    other: Any = Seq2SeqTask.__new__(Seq2SeqTask)
    assert "only captioners look at boxes" in refusal(make_pointing_game, other, data, "boxes.json")


def test_the_boxes_are_no_change_of_the_config() -> None:
    assert take_boxes(["a.b=1", "attention=boxes.json"]) == ("boxes.json", ["a.b=1"])
    assert take_boxes(["a.b=1"]) == (None, ["a.b=1"])
    assert "one value" in refusal(take_boxes, ["attention=a", "attention=b"])
    assert "one value" in refusal(take_boxes, ["attention="])
