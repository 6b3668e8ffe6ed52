"""`attendgen evaluate`: the files that it writes for each family."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from attendgen.utils.resources import bundled_file
from helpers import tiny_data
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_evaluate_pairs_writes_scores_and_outputs(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    assert attendgen("evaluate", runs("toy_chat"), "--out", tmp_path).code == 0
    metrics = json.loads((tmp_path / "metrics_val.json").read_text())
    lines = (tmp_path / "outputs_val.txt").read_text().splitlines()
    targets = [line.split("\t")[1] for line in Path(bundled_file("toy_chat.tsv")).read_text().splitlines()]
    assert len(lines) == 19
    assert metrics["exact_match"] == pytest.approx(np.mean([a == b for a, b in zip(lines, targets, strict=True)]))
    assert all(isinstance(value, float) for value in metrics.values())


def test_evaluate_captions_writes_the_coco_results_format(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = runs("flickr8k_soft")
    outcome = attendgen("evaluate", run, "--split", "dev", "--out", tmp_path, "decoding.beam_size=2")
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "captions_dev.json").read_text())
    assert [set(row) for row in rows] == [{"image_id", "caption"}] * 2
    assert [row["image_id"] for row in rows] == ["purple.jpg", "orange.jpg"]
    metrics = json.loads((tmp_path / "metrics_dev.json").read_text())
    train = {caption.format(color) for caption in tiny_data.CAPTIONS for color in tiny_data.COLORS[:4]}
    assert metrics["seen_in_training"] == np.mean([row["caption"] in train for row in rows])
    assert ("meteor" in metrics) == (shutil.which("java") is not None)
    assert "bleu4" in metrics
    assert "bleu4" in outcome.out


def test_evaluate_scores_text_files(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    texts[0].write_text("It was the worst of times ж.", encoding="utf-8")
    texts[1].write_text("Ismaël", encoding="utf-8")
    outcome = attendgen("evaluate", runs("novels"), "--out", tmp_path, "--text", *texts)
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics_text.json").read_text())
    assert metrics["characters"] == 28 + 6
    assert metrics["unknown_characters"] == 1
    assert metrics["perplexity"] == pytest.approx(2 ** metrics["bits_per_character"], rel=1e-5)


def test_dynamic_evaluation_adds_a_score(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was the worst of times. " * 20)
    command = ("evaluate", runs("novels"), "--out", tmp_path, "--text", tmp_path / "a.txt")
    static = attendgen(*command)
    assert static.code == 0, static.err
    before = json.loads((tmp_path / "metrics_text.json").read_text())
    assert attendgen(*command, "--dynamic-eval-lr", "0.5").code == 0
    after = json.loads((tmp_path / "metrics_text.json").read_text())
    assert after["bits_per_character"] == pytest.approx(before["bits_per_character"], rel=1e-6)
    assert after["dynamic_bits_per_character"] < before["bits_per_character"]


def test_copied_run_scores_the_same_from_another_directory(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    assert attendgen("evaluate", runs("toy_chat"), "--out", before).code == 0
    copied = shutil.copytree(runs("toy_chat"), tmp_path / "other" / "machine")
    monkeypatch.chdir(copied.parent)
    assert attendgen("evaluate", "machine").code == 0
    assert (copied / "metrics_val.json").read_bytes() == (before / "metrics_val.json").read_bytes()


def test_paths_of_overrides_are_relative_to_the_working_directory(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs("toy_chat")
    (tmp_path / "mine.tsv").write_text("Salut\tBonjour\n")
    monkeypatch.chdir(tmp_path)
    outcome = attendgen("evaluate", run, "--out", tmp_path, "data.val=mine.tsv")
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "outputs_val.txt").read_text().splitlines()) == 1
    outcome = attendgen("evaluate", run, "--out", tmp_path, "data.root=.", "data.val=mine.tsv")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("experiment", ["toy_chat", "flickr8k_soft"])
def test_decoding_settings_that_a_saved_run_lacks_can_be_set(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    monkeypatch.setenv("PATH", "")  # no Java: METEOR would take longer than all the rest
    run = shutil.copytree(runs(experiment), tmp_path / "old")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["decoding"].pop("mbr_samples", None)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = attendgen("evaluate", run, "--out", tmp_path, "decoding.beam_size=4", "decoding.mbr_samples=20")
    assert outcome.code == 0, outcome.err
    options = ("--beam", 4, "--mbr-samples", 20)
    if experiment == "toy_chat":
        answers = [attendgen("generate", run, "Salut", *options).out for _ in range(2)]
        assert answers[0] == answers[1] != ""
        assert attendgen("generate", run, "Salut", *options, "--temperature", 0.1).code == 0
    else:
        image = tiny_data.image(tmp_path / "red.jpg", "red")
        assert attendgen("caption", run, image, *options, "--out", tmp_path).code == 0
    assert_mistake(attendgen("evaluate", run, "decoding.mbr=20"), "decoding.mbr", "no such field")
