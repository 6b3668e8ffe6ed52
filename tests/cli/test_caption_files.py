"""`attendgen caption` of folders and lists: a stream, whose broken images are named at the end."""

import json
import os
from pathlib import Path

import pytest

from attendgen.cli.caption_files import Figures
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from helpers import tiny_data
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns

COLORS = {"b.png": "blue", "COCO_val2014_000000000042.jpg": "red", "a.png": "green"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three images, a broken one and a note."""
    for name, color in COLORS.items():
        tiny_data.image(tmp_path / "images" / name, color)
    (tmp_path / "images" / "aa.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "note.txt").write_text("note")
    return tmp_path / "images"


def caption_each(run: Path, folder: Path) -> dict[str, str]:
    captioner = load(run)
    assert isinstance(captioner, ImageCaptioner)
    return {name: captioner.caption(folder / name, max_length=5)[0].text for name in COLORS}


def test_folder_is_captioned_without_its_broken_images(
    attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, results = runs("flickr8k_soft"), tmp_path / "results.json"
    expected = caption_each(run, folder)
    outcome = attendgen("caption", run, folder, "--max-length", 5, "--json", results, "--no-attention")
    assert outcome.code == 3
    assert outcome.out == ""
    assert "1 of 4 images cannot be read" in outcome.err
    assert "aa.jpg" in outcome.err
    found = {row["image_id"]: row["caption"] for row in json.loads(results.read_text())}
    assert found == {
        42: expected["COCO_val2014_000000000042.jpg"],
        "a.png": expected["a.png"],
        "b.png": expected["b.png"],
    }
    printed = attendgen("caption", run, folder, "--max-length", 5)
    assert printed.code == 3
    assert printed.out == "".join(f"{folder / name}: {expected[name]}\n" for name in sorted(expected))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "results.json"], "nothing else is written"


def test_list_is_captioned_in_order_and_continued(
    attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path
) -> None:
    run, names, output = runs("flickr8k_soft"), ["b.png", "aa.jpg", "a.png"], tmp_path / "captions.txt"
    (tmp_path / "list.txt").write_text("\n".join(names))
    command = ("caption", run, folder, "--input", tmp_path / "list.txt", "--max-length", 5, "--output", output)
    assert attendgen(*command).code == 3
    expected = caption_each(run, folder)
    whole = "".join(f"{folder / name}\t{expected.get(name, '')}\n" for name in names)
    assert output.read_text() == whole
    assert_mistake(attendgen(*command), "captions.txt", "--resume")
    output.write_text(whole[: whole.index("a.png")])
    assert attendgen(*command, "--resume").code == 0
    assert output.read_text() == whole


def test_list_of_coco_has_its_ids(attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path) -> None:
    rows = [{"file_name": "b.png", "id": 7}, {"file_name": "a.png", "id": 3}]
    (tmp_path / "image_info.json").write_text(json.dumps({"images": rows}))
    command = ("caption", runs("flickr8k_soft"), folder, "--input", tmp_path / "image_info.json", "--max-length", 3)
    assert attendgen(*command, "--json", tmp_path / "out.json").code == 0
    assert [row["image_id"] for row in json.loads((tmp_path / "out.json").read_text())] == [7, 3]
    (tmp_path / "image_info.json").write_text('{"images": [{"id": 3}]}')
    assert_mistake(attendgen(*command, "--json", tmp_path / "no.json"), "image_info.json", "file_name")
    assert not (tmp_path / "no.json").exists()


def test_options_that_exclude_each_other_are_refused(
    attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("b.png\n")
    caption, out = ("caption", runs("flickr8k_soft")), tmp_path / "out"
    assert_mistake(attendgen(*caption), "--input")
    assert_mistake(attendgen(*caption, tmp_path / "empty"), "empty", "without images")
    assert_mistake(attendgen(*caption, folder, "--html", out), "--html", "folder")
    assert_mistake(attendgen(*caption, folder, "--no-attention", "--out", out), "--no-attention", "--out")
    assert_mistake(attendgen(*caption, folder, "--json", out, "--beam", 3, "--n-best", 2), "--n-best")
    assert_mistake(attendgen(*caption, folder, "--resume"), "--resume", "--output")
    assert_mistake(attendgen(*caption, folder / "b.png", "--input", tmp_path / "list.txt"), "b.png", "folder")
    assert_mistake(attendgen(*caption, folder / "aa.jpg", folder / "none.jpg"), "no image can be read")
    assert not out.exists()


def test_a_name_that_is_no_text_is_captioned_like_others(
    attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path
) -> None:
    run, name = runs("flickr8k_soft"), os.fsdecode(b"caf\xe9.png")
    (folder / "a.png").rename(folder / name)
    (folder / "aa.jpg").unlink()
    output, results = tmp_path / "captions.txt", tmp_path / "results.json"
    outcome = attendgen("caption", run, folder, "--max-length", 5, "--output", output, "--json", results)
    assert outcome.code == 0, outcome.err
    assert os.fsencode(f"{folder / name}\t") in output.read_bytes()
    assert {row["image_id"] for row in json.loads(results.read_text())} == {42, "b.png", name}


def test_a_list_is_known_as_json_whatever_the_case_of_its_ending(
    attendgen: Command, runs: SharedRuns, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "LIST.JSON").write_text(json.dumps({"images": [{"id": 7, "file_name": "a.png"}]}))
    outcome = attendgen("caption", runs("flickr8k_soft"), folder, "--max-length", 5, "--input", tmp_path / "LIST.JSON")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{folder / 'a.png'}: ")


def test_each_figure_has_a_name_of_its_own() -> None:
    figures = Figures(None)
    assert [figures.choose_name(stem) for stem in ("b", "b", "b_2", "a", "b")] == ["b", "b_2", "b_2_2", "a", "b_3"]
