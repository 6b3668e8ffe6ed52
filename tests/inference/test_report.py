"""The attention page holds what the results hold: weights, probabilities and texts, the hostile ones as data."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import attendgen
from attendgen.inference.load import load
from attendgen.inference.report import make_data, report
from attendgen.visualization.regions import Boxes, Grid
from helpers.attention_pages import HOSTILE, make_caption, make_result, read_data, unpack
from helpers.errors import refusal
from helpers.runs import SharedRuns


def draw_weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def test_weights_and_probabilities_are_those_of_the_result(tmp_path: Path) -> None:
    weights = draw_weights(3, 40)
    weights[1, :30] = 0  # columns without a weight need no bytes
    result = make_result(["ein", "Hund", "<eos>"], weights, source=[f"w{i}" for i in range(40)])
    result.alternatives.extend([{"ein": math.log(0.5), "der": -math.inf}, {}, {}])
    report(result, tmp_path / "page.html", title="one")
    (item,) = read_data((tmp_path / "page.html").read_text(encoding="utf-8"))["items"]
    (output,) = item["models"][0]["outputs"]
    peaks = weights.max(axis=1, keepdims=True)
    np.testing.assert_allclose(unpack(output) / peaks, weights / peaks, atol=0.51 / 255)
    assert output["weights"][1][0] >= 30
    assert output["probabilities"] == pytest.approx([1 / 2, 1 / 3, 1 / 4], rel=1e-3)
    assert output["alternatives"] == [[["ein", 0.5], ["der", 0.0]], [], []]
    assert item["kind"] == "pair"
    assert len(item["models"][0]["source"]) == 40


def test_hostile_texts_are_data(tmp_path: Path) -> None:
    result = make_result([HOSTILE, "\ud800"], np.eye(2), source=[HOSTILE, "b"], text=HOSTILE)
    report({HOSTILE: [result]}, tmp_path / "page.html", title=HOSTILE)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (item,) = read_data(page)["items"]
    assert item["models"][0]["name"] == item["models"][0]["outputs"][0]["text"] == HOSTILE
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(re.findall("<script", page)) == 2
    assert "onerror=alert(2)>" not in page
    assert "<img" not in outside
    assert (
        outside.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 5
    )  # title, heading, names of input and model, output


def test_a_page_asks_for_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    report(make_result(["a"], np.ones((1, 1)), source=["b"]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert re.search(r'content="default-src \'none\'; img-src data:; style-src \'sha256-[\w+/=]+\'; script-src', page)
    assert not re.search(r"https?:|@import|url\(", page)


def test_numbers_that_are_none_stay_json() -> None:
    result = make_result(["a", "b"], np.array([[np.nan, 1.0], [np.inf, 0.5]]), source=["x", "y"], score=math.nan)
    result.log_probs[:] = [math.nan, -math.inf]
    (item,) = json.loads(json.dumps(make_data({"": [[result]]}), allow_nan=False))["items"]
    (output,) = item["models"][0]["outputs"]
    assert output["score"] is None
    assert output["probabilities"] == [None, 0.0]
    np.testing.assert_allclose(unpack(output), [[0, 1], [0, 0.5]], atol=1e-3)


def test_an_image_with_ten_hypotheses_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)  # the worst for JPEG
    likeliest = [{f"likely{k}": -float(k) for k in range(5)}] * 20
    results = [
        make_result(["longword"] * 20, draw_weights(20, 196), regions=Grid(14, 14), alternatives=likeliest)
        for _ in range(10)
    ]
    report(results, tmp_path / "page.html", images=[Image.fromarray(noise)])
    assert (tmp_path / "page.html").stat().st_size < 300_000


def test_each_model_and_input_has_its_place(tmp_path: Path) -> None:
    paths = [tmp_path / f"{color}.png" for color in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (30, 20), path.stem).save(path)
    first = [[make_caption("a dog", [0, 1])], [make_caption("a cat", [2, 3]), make_caption("cats", [4])]]
    boxes = make_result(["dog"], np.ones((1, 1)), regions=Boxes(np.array([[0.1, 0.2, 0.5, 0.6]])))
    data = make_data({"one": first, "two": [[boxes], []]}, paths)
    assert [item["name"] for item in data["items"]] == ["red.png", "blue.png"]
    texts = [[[o["text"] for o in model["outputs"]] for model in item["models"]] for item in data["items"]]
    assert texts == [[["a dog"], ["dog"]], [["a cat", "cats"], []]]
    assert data["items"][0]["models"][1]["outputs"][0]["regions"] == {"boxes": [[0.1, 0.2, 0.5, 0.6]]}
    assert (data["items"][0]["picture"]["width"], data["items"][0]["picture"]["height"]) == (30, 20)


def test_wrong_numbers_of_inputs_and_images_are_named(tmp_path: Path) -> None:
    one, path = make_caption("a dog", [0, 1]), tmp_path / "page.html"
    assert "one: 1, two: 2" in refusal(report, {"one": [[one]], "two": [[one], [one]]}, path)
    assert "2 images" in refusal(report, one, path, images=[Image.new("RGB", (3, 3))] * 2)
    assert not path.exists()


@pytest.mark.parametrize("experiment", ["novels", pytest.param("novels_textgenerate", marks=pytest.mark.slow)])
def test_a_continuation_s_alternatives_are_those_of_its_windows(runs: SharedRuns, experiment: str) -> None:
    model = load(runs(experiment))
    size = len(model.vocabulary)
    found = model.generate("It was", max_length=40, temperature=1.0, seed=3, n_best=2, alternatives=size)
    for result in found:
        assert "".join(result.context).endswith("It was")
        own = [step[token] for step, token in zip(result.alternatives, result.tokens, strict=True)]
        np.testing.assert_allclose(own, result.log_probs, atol=1e-4)
    forced = model.score("It was", found[0].text, alternatives=3)
    for step, likeliest in zip(found[0].alternatives, forced.alternatives, strict=True):
        assert list(likeliest) == list(step)[:3]
    (item,) = make_data({"novels": [found]})["items"]
    assert item["kind"] == "text"
    assert attendgen.report is report
