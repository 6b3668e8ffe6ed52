"""`attendgen evaluate`: the files that it writes for each family."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sacrebleu.metrics.bleu import BLEU

from attendgen.evaluation import evaluate
from attendgen.runs.checkpoint import read_checkpoint
from attendgen.utils import progress
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
    signatures = {name: value for name, value in metrics.items() if name.endswith("_signature")}
    assert all(isinstance(value, float) for name, value in metrics.items() if name not in signatures)
    assert set(signatures) == {"bleu_signature", "chrf_signature"}
    assert BLEU().corpus_score(lines, [targets]).score == pytest.approx(metrics["bleu"], abs=1e-4)
    assert signatures["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")


@pytest.mark.slow
def test_evaluate_captions_writes_the_coco_results_format(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = runs("flickr8k_soft")
    outcome = attendgen("evaluate", run, "--split", "dev", "--out", tmp_path, "decoding.beam_size=2")
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "captions_dev.beam2.json").read_text())
    assert [set(row) for row in rows] == [{"image_id", "caption"}] * 2
    assert [row["image_id"] for row in rows] == ["purple.jpg", "orange.jpg"]
    metrics = json.loads((tmp_path / "metrics_dev.beam2.json").read_text())
    train = {caption.format(color) for caption in tiny_data.CAPTIONS for color in tiny_data.COLORS[:4]}
    assert metrics["seen_in_training"] == np.mean([row["caption"] in train for row in rows])
    assert "meteor" not in metrics, "tests have no Java"
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
    bound = metrics["bits_per_character"] + math.log2(0x110000) / 34
    assert metrics["bits_per_character_bound"] == pytest.approx(bound, rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(2 ** metrics["bits_per_character"], rel=1e-5)


def test_dynamic_evaluation_adds_a_score(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", -1.0)
    (tmp_path / "a.txt").write_text("It was the worst of times. " * 20)
    command = ("evaluate", runs("novels"), "--out", tmp_path, "--text", tmp_path / "a.txt")
    static = attendgen(*command)
    assert static.code == 0, static.err
    before = json.loads((tmp_path / "metrics_text.json").read_text())
    dynamic = attendgen(*command, "--dynamic-eval-lr", "0.5")
    assert dynamic.code == 0
    assert "\nevaluation: 1 of " in f"\n{dynamic.err}"
    assert "\ndynamic evaluation: 1 of " in dynamic.err
    assert "\r" not in dynamic.out + dynamic.err
    after = json.loads((tmp_path / "metrics_text.dynamic0.5.json").read_text())
    assert after["bits_per_character"] == pytest.approx(before["bits_per_character"], rel=1e-6)
    assert after["dynamic_bits_per_character"] < before["bits_per_character"]


def test_evaluations_with_other_settings_stand_side_by_side(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    for more in ([], ["decoding.beam_size=3"], ["decoding.beam_size=1"], ["decoding.beam_size=2", "--tag", "mine"]):
        assert attendgen("evaluate", run, *more).code == 0
    for tag, beam in {"": 1, ".beam3": 3, ".mine": 2}.items():
        settings = json.loads((run / f"settings_val{tag}.json").read_text())
        assert settings["decoding"]["beam_size"] == beam
        assert settings["tag"] == tag[1:]
        assert settings["step"] == read_checkpoint(run / settings["checkpoint"])["global_step"]
        assert {"finished", "packages", "seconds"} <= settings.keys()
        assert (run / f"outputs_val{tag}.txt").is_file()
        assert (run / f"metrics_val{tag}.json").is_file()
    assert json.loads((run / "settings_val.mine.json").read_text())["changes"] == ["decoding.beam_size=2"]
    shown = attendgen("runs", tmp_path).out
    assert "val.beam3/exact_match" in shown.replace("\n", "")
    assert_mistake(attendgen("evaluate", run, "--tag", "../x"), "--tag")


def test_several_runs_are_scored_in_one_process(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "seed=1", tmp_path / "seed=2"]  # a RUN with "=" exists as a path
    for folder in folders:
        shutil.copytree(runs("toy_chat"), folder)
    for name in ("none", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("name: broken\n")
    monkeypatch.chdir(tmp_path)
    open_data, opened = evaluate.open_data, []

    def count(*arguments: Any) -> Any:
        opened.append(arguments)
        return open_data(*arguments)

    monkeypatch.setattr(evaluate, "open_data", count)
    outcome = attendgen("evaluate", "seed=1", "broken", "seed=2", "decoding.beam_size=2")
    assert outcome.code == 3
    (line,) = (line for line in outcome.err.splitlines() if line.startswith("attendgen: "))
    assert "broken/config.yaml: data, model, task: missing" in line
    assert_mistake(attendgen("evaluate", "seed=1", "none"), "none is not a run directory")
    assert_mistake(attendgen("evaluate", "seed=1", "nowhere"), "nowhere: no such run directory")
    scores = [json.loads((folder / "metrics_val.beam2.json").read_text()) for folder in folders]
    assert scores[0] == scores[1]
    assert len(opened) == 1, "the runs share their data"
    rows = [line.split() for line in outcome.out.splitlines() if "seed=" in line]
    assert [row[0] for row in rows] == ["seed=1", "seed=2"]
    assert float(rows[0][1]) == pytest.approx(scores[0]["exact_match"], abs=1e-4)
    assert attendgen("evaluate", "seed=1", "seed=2").code == 0
    assert_mistake(attendgen("evaluate", "seed=1", "seed=2", "--out", "x"), "--out")
    assert_mistake(attendgen("evaluate", "decoding.beam_size=2"), "no RUN")


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
    (outputs,) = tmp_path.glob("outputs_val.val-mine.tsv*.txt")
    assert len(outputs.read_text().splitlines()) == 1
    outcome = attendgen("evaluate", run, "--out", tmp_path, "data.root=.", "data.val=mine.tsv")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("experiment", ["toy_chat", "flickr8k_soft"])
def test_decoding_settings_that_a_saved_run_lacks_can_be_set(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, experiment: str
) -> None:
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
