"""`attendgen caption`: images of any mode, figures, the HTML page, re-ranking by similar images' captions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attendgen.inference.load import load
from attendgen.runs.run import Run
from helpers import tiny_data
from helpers.attention_pages import read_data, unpack
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_caption_accepts_any_image_mode(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    gray = Image.fromarray(np.arange(97 * 33, dtype=np.uint16).reshape(33, 97))
    paths = []
    for mode in ("L", "RGBA", "P", "I;16", "CMYK"):
        paths.append(tmp_path / f"{mode[:1]}{'.tif' if mode == 'CMYK' else '.png'}")
        (gray if mode == "I;16" else gray.convert("L").convert(mode)).save(paths[-1])
        assert Image.open(paths[-1]).mode == mode
    outcome = attendgen("caption", runs("flickr8k_soft"), *paths, "--out", tmp_path, "--max-length", "4")
    assert outcome.code == 0, outcome.err
    captions = [line.split() for line in outcome.out.splitlines()]
    assert [name for name, *_ in captions] == [f"{path}:" for path in paths]
    assert all(len(words) <= 4 for _, *words in captions)
    for path in paths:
        assert Image.open(tmp_path / f"{path.stem}_attention.png").format == "PNG"


def test_caption_writes_one_page_for_all_images(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    paths = [tiny_data.image(tmp_path / name / "photo.png", "red") for name in "ab"]
    page = tmp_path / "page.html"
    options = ("--out", tmp_path, "--html", page, "--max-length", 3, "--beam", 3, "--n-best", 2)
    outcome = attendgen("caption", runs("flickr8k_soft"), *paths, *options)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in tmp_path.glob("*.png")} == {"photo_attention.png", "photo_2_attention.png"}
    text = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert f"<title>Attention of {runs('flickr8k_soft').name}</title>" in text
    items = read_data(text)["items"]
    assert [item["name"] for item in items] == ["photo.png"] * 2
    expected = load(runs("flickr8k_soft")).caption(paths[0], max_length=3, beam_size=3, n_best=2)
    for output, result in zip(items[0]["models"][0]["outputs"], expected, strict=True):
        assert output["text"] == result.text
        np.testing.assert_allclose(unpack(output), result.attention, atol=0.003)
        assert [len(step) for step in output["alternatives"]] == [5] * len(result.tokens)


def test_a_change_of_the_model_shows_the_places_of_hard_attention(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    image, page = tiny_data.image(tmp_path / "photo.png", "red"), tmp_path / "page.html"
    options = ("model.inference_attention=argmax", "--html", page, "--max-length", 3)
    outcome = attendgen("caption", runs("flickr8k_soft"), image, *options)
    assert outcome.code == 0, outcome.err
    (item,) = read_data(page.read_text(encoding="utf-8"))["items"]
    weights = unpack(item["models"][0]["outputs"][0])
    assert set(weights.flatten().tolist()) == {0.0, 1.0}
    mistake = attendgen("caption", runs("flickr8k_soft"), image, "model.inference_attention=hard")
    assert_mistake(mistake, "model.inference_attention=hard")


def test_several_runs_stand_side_by_side(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run, image, page = runs("flickr8k_soft"), tiny_data.image(tmp_path / "photo.png", "red"), tmp_path / "page.html"
    assert_mistake(attendgen("caption", run, run, image), "2 runs", "--html FILE")
    outcome = attendgen("caption", run, run, image, "--html", page, "--max-length", 3)
    assert outcome.code == 0, outcome.err
    names = [run.name, f"{run.name} (2)"]
    assert [line.partition(": ")[0] for line in outcome.out.splitlines()] == names
    (item,) = read_data(page.read_text(encoding="utf-8"))["items"]
    assert [model["name"] for model in item["models"]] == names
    assert not list(Path().glob("photo_attention.png"))


@pytest.mark.slow
def test_retrieval_captions_are_the_same_in_evaluate_and_caption(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    run, options = runs("flickr8k_soft"), ("decoding.beam_size=4", "decoding.retrieval_captions=2")
    outcome = attendgen("evaluate", run, "--split", "dev", "--out", tmp_path, "--tag", "", *options)
    assert outcome.code == 0, outcome.err
    root = Path(Run.find(run).config.data.root)
    for row in json.loads((tmp_path / "captions_dev.json").read_text()):
        image = root / "Images" / row["image_id"]
        command = ("caption", run, image, "--beam", 4, "--retrieval-captions", 2, "--out", tmp_path)
        alone = attendgen(*command)
        assert alone.out.strip() == row["caption"]
    moved = shutil.copytree(root, tmp_path / "moved")
    assert attendgen(*command, "--data", moved).out == alone.out
