"""The command line as people script it: outputs, files, exit codes, one-line messages."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from attendgen.cli.app import main
from attendgen.inference.load import load
from attendgen.runs.bundle import bundle
from attendgen.runs.run import Run
from attendgen.utils import resources
from attendgen.utils.errors import UserError
from attendgen.utils.resources import bundled_file
from helpers import tiny_data


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def attendgen(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["attendgen", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(int(stop.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each family, trained for a moment."""
    names = ("toy_chat", "novels", "flickr8k_soft")
    runs = tiny.Runs(tmp_path_factory.mktemp("runs"), {name: [name] for name in names})
    return {name: runs(name) for name in names}


def assert_mistake(outcome: Outcome, *parts: str | Path) -> None:
    """Exit code 2 and one line that names all of `parts`."""
    lines = [line for line in outcome.err.splitlines() if line.startswith("attendgen: ")]
    assert outcome.code == 2, outcome.err
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for part in parts:
        assert str(part) in lines[0]


def test_help_names_every_command_and_option(attendgen: Command) -> None:
    commands = {"train", "evaluate", "generate", "caption", "ensemble", "merge", "calibrate", "runs"}
    assert commands <= set(attendgen("--help").out.split())
    for command, words in {
        "train": ["experiment=", "toy_chat", "resume=RUN", "-m"],
        "evaluate": ["--split", "--out", "--text", "KEY=VALUE"],
        "generate": [
            "--beam",
            "--n-best",
            "--temperature",
            "--top-k",
            "--top-p",
            "--max-length",
            "--seed",
            "--attention",
            "--score",
            "--coverage-penalty",
            "--length-penalty-type avg",
            "--min-length",
            "--no-repeat-ngram-size",
            "--mbr-samples",
        ],
        "caption": ["--beam", "--mbr-samples", "--retrieval-captions", "--out", "--html"],
        "runs": ["DIR", "--csv"],
    }.items():
        outcome = attendgen(command, "--help")
        assert outcome.code == 0
        for word in words:
            assert word in outcome.out, (command, word)


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["generate"], ["generate", "--frob", "RUN", "text"], ["evaluate", "--split"], ["runs", "nowhere"]],
)
def test_a_wrong_command_or_option(attendgen: Command, arguments: list[str]) -> None:
    assert_mistake(attendgen(*arguments))


def test_train_reports_a_wrong_experiment(attendgen: Command) -> None:
    assert_mistake(attendgen("train", "experiment=nope"), "experiment/nope", "toy_chat")


def test_train_takes_options_between_overrides(attendgen: Command) -> None:
    outcome = attendgen("train", "experiment=toy_chat", "--cfg", "job", "seed=4", "-p", "seed")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == "4"
    assert_mistake(attendgen("train", "-m", "experiment=toy_chat", "--cfg", "job", "seed=4"), "--multirun", "--cfg")


def test_evaluate_pairs_writes_scores_and_outputs(attendgen: Command, trained, tmp_path: Path) -> None:
    run = trained["toy_chat"]
    assert attendgen("evaluate", run, "--out", tmp_path).code == 0
    metrics = json.loads((tmp_path / "metrics_val.json").read_text())
    lines = (tmp_path / "outputs_val.txt").read_text().splitlines()
    targets = [line.split("\t")[1] for line in Path(bundled_file("toy_chat.tsv")).read_text().splitlines()]
    assert len(lines) == 19
    assert metrics["exact_match"] == pytest.approx(np.mean([a == b for a, b in zip(lines, targets, strict=True)]))
    assert all(isinstance(value, float) for value in metrics.values())


def test_a_copied_run_scores_the_same_from_anywhere(attendgen: Command, trained, tmp_path: Path, monkeypatch) -> None:
    before = tmp_path / "before"
    assert attendgen("evaluate", trained["toy_chat"], "--out", before).code == 0
    copied = shutil.copytree(trained["toy_chat"], tmp_path / "other" / "machine")
    monkeypatch.chdir(copied.parent)
    assert attendgen("evaluate", "machine").code == 0
    assert (copied / "metrics_val.json").read_bytes() == (before / "metrics_val.json").read_bytes()


def test_evaluate_captions_writes_cocos_results_format(attendgen: Command, trained, tmp_path: Path) -> None:
    outcome = attendgen(
        "evaluate", trained["flickr8k_soft"], "--split", "dev", "--out", tmp_path, "decoding.beam_size=2"
    )
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


def test_evaluate_scores_any_text(attendgen: Command, trained, tmp_path: Path) -> None:
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    texts[0].write_text("It was the worst of times ж.", encoding="utf-8")
    texts[1].write_text("Ismaël", encoding="utf-8")
    outcome = attendgen("evaluate", trained["novels"], "--out", tmp_path, "--text", *texts)
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "metrics_text.json").read_text())
    assert metrics["characters"] == 28 + 6
    assert metrics["unknown_characters"] == 1
    assert metrics["perplexity"] == pytest.approx(2 ** metrics["bits_per_character"], rel=1e-5)


def test_evaluate_refuses_what_does_not_fit(attendgen: Command, trained, tmp_path: Path) -> None:
    run, text = trained["toy_chat"], tmp_path / "text.txt"
    text.write_text("text")
    assert_mistake(attendgen("evaluate", run, "--text", text), "--text")
    assert_mistake(attendgen("evaluate", run, "--split", "holdout"), "holdout")
    assert_mistake(attendgen("evaluate", run, "data.bath_size=3"), "data.bath_size")
    assert_mistake(attendgen("evaluate", run, "nonsense"), "nonsense")
    assert_mistake(attendgen("evaluate", trained["novels"], "--text", tmp_path / "none.txt"), "none.txt")
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert_mistake(attendgen("evaluate", trained["novels"], "--text", empty), "empty.txt", "empty")
    assert_mistake(attendgen("evaluate", trained["flickr8k_soft"], "--split", "test"), "Flickr_8k.testImages.txt")
    assert not list(tmp_path.glob("*.json"))


def test_generate_answers_and_draws(attendgen: Command, trained, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    outcome = attendgen(
        "generate", trained["toy_chat"], "Tu vas bien ?", "--beam", "3", "--n-best", "2", "--attention", picture
    )
    assert outcome.code == 0, outcome.err
    scores = [float(line.split("\t")[0]) for line in outcome.out.splitlines()]
    assert len(scores) == 2
    assert scores[0] >= scores[1]
    assert Image.open(picture).size[0] > 100


@pytest.mark.parametrize("family", ["toy_chat", "novels"])
def test_a_forced_score_is_the_searchs_own(attendgen: Command, trained, tmp_path: Path, family: str) -> None:
    model = load(trained[family])
    found = model.generate("Tu vas bien", max_length=40, temperature=1.0, seed=3)[0]
    forced = model.score("Tu vas bien", found.text)
    if family == "novels" or found.tokens[-1] == "<eos>":
        assert forced.tokens == found.tokens
    length = len(found.text)
    np.testing.assert_allclose(forced.log_probs[:length], found.log_probs[:length], atol=1e-4)
    np.testing.assert_allclose(forced.attention[:length], found.attention[:length], atol=1e-5)
    assert forced.score == pytest.approx(forced.log_probs.sum(), abs=1e-3)
    picture = tmp_path / "map.png"
    outcome = attendgen("generate", trained[family], "Tu vas bien", "--score", "es", "--attention", picture)
    assert outcome.code == 0, outcome.err
    score, text = outcome.out.rstrip("\n").split("\t")
    assert text == "es"
    assert float(score) == pytest.approx(model.score("Tu vas bien", "es").score, abs=1e-3)
    assert picture.exists()


def test_many_texts_are_answered_as_each_alone(attendgen: Command) -> None:
    # of a model that has learnt something: rounding decides between the outputs of one that has not
    texts = ["Tu vas bien ?", "Salut", "Quoi de neuf dans ta vie ?"]
    options = (
        "--beam",
        "4",
        "--length-penalty",
        "0.6",
        "--min-length",
        "3",
        "--no-repeat-ngram-size",
        "3",
        "--coverage-penalty",
        "0.1",
    )
    together = attendgen("generate", "toy-chat", *texts, *options).out.splitlines()
    alone = [attendgen("generate", "toy-chat", text, *options).out.rstrip("\n") for text in texts]
    assert together == alone
    assert all(together)


@pytest.mark.parametrize("family", ["toy_chat", "flickr8k_soft"])
def test_a_run_is_decoded_by_settings_newer_than_it(
    attendgen: Command, trained, tmp_path: Path, family: str, monkeypatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no Java: METEOR would take longer than all the rest
    run = shutil.copytree(trained[family], tmp_path / "old")
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["decoding"]["consensus"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = attendgen("evaluate", run, "--out", tmp_path, "decoding.beam_size=4", "decoding.mbr_samples=20")
    assert outcome.code == 0, outcome.err
    options = ("--beam", 4, "--mbr-samples", 20)
    if family == "toy_chat":
        answers = [attendgen("generate", run, "Salut", *options).out for _ in range(2)]
        assert answers[0] == answers[1] != ""
        assert attendgen("generate", run, "Salut", *options, "--temperature", 0.1).code == 0
        assert_mistake(attendgen("generate", run, "Salut", "--mbr-samples", 20), "consensus 20", "--beam")
    else:
        picture = tiny_data.image(tmp_path / "red.jpg", "red")
        assert attendgen("caption", run, picture, *options, "--out", tmp_path).code == 0
    assert_mistake(attendgen("evaluate", run, "decoding.consensual=20"), "decoding.consensual", "no such field")


def test_neighbours_are_asked_for_captions_alone(attendgen: Command, trained, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")  # no Java
    run, options = trained["flickr8k_soft"], ("decoding.beam_size=4", "decoding.retrieval_captions=2")
    outcome = attendgen("evaluate", run, "--split", "dev", "--out", tmp_path, *options)
    assert outcome.code == 0, outcome.err
    scored = json.loads((tmp_path / "captions_dev.json").read_text())
    for row in scored:
        picture = Path(Run.find(run).config.data.root) / "Images" / row["image_id"]
        alone = attendgen("caption", run, picture, "--beam", 4, "--retrieval-captions", 2, "--out", tmp_path)
        assert alone.out.strip() == row["caption"]
    asked = ("caption", run, picture, "--beam", 4, "--retrieval-captions", 2, "--out", tmp_path, "--data")
    moved = shutil.copytree(Run.find(run).config.data.root, tmp_path / "moved")
    assert attendgen(*asked, moved).out == alone.out
    assert_mistake(attendgen(*asked, tmp_path / "nowhere"), "nowhere/Flickr_8k.trainImages.txt")
    assert_mistake(attendgen("evaluate", run, "--split", "train", *options), "decoding.retrieval_captions=2", "split")
    assert_mistake(
        attendgen("evaluate", run, "decoding.beam_size=4", "decoding.retrieval_captions=999"), "training pictures"
    )
    assert_mistake(attendgen("evaluate", trained["toy_chat"], *options), "decoding.retrieval_captions=2", "captioners")


def test_a_bundled_model_is_a_run(attendgen: Command, trained, tmp_path: Path, monkeypatch) -> None:
    run = Run.find(trained["toy_chat"])
    defaults = {"data.root": ".", "data.train": "${bundled:toy_chat.tsv}"}
    bundle(run, "chat", tmp_path / "models" / "chat", defaults)
    (tmp_path / "models" / "chat" / "README.md").write_text("Answers.\n\nMore.\n")
    shutil.copy(bundled_file("toy_chat.tsv"), tmp_path)
    monkeypatch.setattr(resources, "INSTALLED", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "Answers." in attendgen("runs", "--bundled").out
    weights = {name: weight.half().float() for name, weight in run.load_model().state_dict().items()}
    found = load("chat").task.model.state_dict()
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(found[name], weight)
    assert attendgen("generate", "chat", "Tu vas").code == 0
    outcome = attendgen("evaluate", "chat")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "outputs" / "bundled" / "chat" / "metrics_val.json").is_file()
    assert_mistake(attendgen("generate", "chit", "Tu vas"), "chit", "bundled")


def test_an_ensemble_is_made_of_runs(attendgen: Command, trained, tmp_path: Path) -> None:
    two = [trained["toy_chat"]] * 2
    outcome = attendgen("ensemble", *two, "--out", tmp_path / "both", "--weights", "2,1")
    assert outcome.code == 0, outcome.err
    assert attendgen("generate", tmp_path / "both", "Tu vas").code == 0
    assert_mistake(attendgen("ensemble", *two, "--out", tmp_path / "both"), tmp_path / "both", "holds a run")
    assert_mistake(attendgen("ensemble", *two, "--out", tmp_path / "more", "--weights", "2;1"), "--weights", "2;1")
    both = ("--weights", "2,1", "--fit", "val")
    assert_mistake(attendgen("ensemble", *two, "--out", tmp_path / "more", *both), "--weights", "--fit")
    outcome = attendgen("ensemble", *two, "--out", tmp_path / "fitted", "--fit", "val")
    assert outcome.code == 0, outcome.err
    assert "weights: " in outcome.err
    assert not (tmp_path / "more").exists()


def test_runs_are_merged(attendgen: Command, trained, tmp_path: Path) -> None:
    two = [trained["toy_chat"]] * 2
    outcome = attendgen("merge", *two, "--out", tmp_path / "one", "--weights", "3,1")
    assert outcome.code == 0, outcome.err
    assert "weights: 0.7500,0.2500" in outcome.err
    alone, merged = (attendgen("generate", run, "Tu vas") for run in (trained["toy_chat"], tmp_path / "one"))
    assert merged.out == alone.out
    assert attendgen("merge", *two, "--out", tmp_path / "half").code == 0
    assert_mistake(attendgen("merge", *two, "--out", tmp_path / "one"), tmp_path / "one", "holds a run")
    assert_mistake(attendgen("merge", *two, "--out", tmp_path / "more", "--weights", "3;1"), "--weights", "3;1")
    assert not (tmp_path / "more").exists()


def test_a_run_is_calibrated(attendgen: Command, trained, tmp_path: Path) -> None:
    outcome = attendgen("calibrate", trained["toy_chat"], "--out", tmp_path / "made", "data.batch_size=4")
    assert outcome.code == 0, outcome.err
    before, after = re.search(r"val: (\S+) -> (\S+) bits a symbol", outcome.err).groups()
    assert float(after) < float(before)
    assert attendgen("generate", tmp_path / "made", "Tu vas").code == 0
    assert_mistake(attendgen("calibrate", trained["toy_chat"], "--out", tmp_path / "made"), "made", "holds a run")
    assert_mistake(attendgen("calibrate", trained["toy_chat"], "--out", tmp_path / "more", "--fit", "dawn"), "dawn")
    assert not (tmp_path / "more").exists()


def test_a_bundled_model_says_nothing_of_this_machine(trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=/"):
        bundle(Run.find(trained["toy_chat"]), "chat", tmp_path / "chat", {})
    assert not (tmp_path / "chat").exists()


def test_evaluate_finds_files_from_where_the_user_stands(
    attendgen: Command, trained, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "mine.tsv").write_text("Salut\tBonjour\n")
    monkeypatch.chdir(tmp_path)
    outcome = attendgen("evaluate", trained["toy_chat"], "--out", tmp_path, "data.val=mine.tsv")
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "outputs_val.txt").read_text().splitlines()) == 1
    outcome = attendgen("evaluate", trained["toy_chat"], "--out", tmp_path, "data.root=.", "data.val=mine.tsv")
    assert outcome.code == 0, outcome.err


def test_generate_continues_a_context_by_seed(attendgen: Command, trained) -> None:
    def sample(seed: int) -> str:
        return attendgen("generate", trained["novels"], "It was", "--max-length", "60", "--seed", seed).out

    one = sample(1)
    assert len(one.rstrip("\n")) <= 60
    assert one == sample(1) != sample(2)


def test_a_prompt_may_stand_in_a_file(attendgen: Command, trained, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("It was")
    options = ("--max-length", "30", "--seed", "1")
    outcome = attendgen("generate", trained["novels"], "--prompt-file", tmp_path / "prompt.txt", *options)
    assert outcome.out == attendgen("generate", trained["novels"], "It was", *options).out
    assert_mistake(attendgen("generate", trained["novels"], "--prompt-file", tmp_path / "none.txt"), "none.txt")
    assert_mistake(attendgen("generate", trained["novels"]), "--prompt-file")


def test_a_streamed_continuation_is_the_one_that_is_returned(attendgen: Command, trained) -> None:
    made = load(trained["novels"]).generate("It was", max_length=50, seed=3)[0]
    assert (
        attendgen("generate", trained["novels"], "It was", "--max-length", "50", "--seed", "3").out == made.text + "\n"
    )
    many = attendgen("generate", trained["novels"], "It was", "--n-best", "2", "--max-length", "20", "--seed", "3").out
    assert len(many.split("\t")) == 3  # each after its score


def test_dynamic_evaluation_is_reported_apart(attendgen: Command, trained, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It was the worst of times. " * 20)
    options = ("--out", tmp_path, "--text", tmp_path / "a.txt")
    plain = attendgen("evaluate", trained["novels"], *options)
    assert plain.code == 0, plain.err
    before = json.loads((tmp_path / "metrics_text.json").read_text())
    assert attendgen("evaluate", trained["novels"], *options, "--dynamic-eval-lr", "0.5").code == 0
    after = json.loads((tmp_path / "metrics_text.json").read_text())
    assert after["bits_per_character"] == pytest.approx(before["bits_per_character"], rel=1e-6)
    assert after["dynamic_bits_per_character"] < before["bits_per_character"]
    assert_mistake(
        attendgen("evaluate", trained["toy_chat"], "--out", tmp_path, "--dynamic-eval-lr", "1"), "--dynamic-eval-lr"
    )


def test_generate_refuses_bad_prompts_and_options(attendgen: Command, trained, tmp_path: Path) -> None:
    for family in ("toy_chat", "novels"):
        run = trained[family]
        assert_mistake(attendgen("generate", run, ""), "empty text")
        assert_mistake(attendgen("generate", run, "жжж"), "жжж", "never seen")
        assert_mistake(attendgen("generate", run, "It was", "--temperature", "0"), "temperature 0")
        assert_mistake(attendgen("generate", run, "It was", "--beam", "0"), "beam")
    run = trained["toy_chat"]
    assert_mistake(attendgen("generate", run, "Tu vas", "--n-best", "3"), "n-best 3")
    assert_mistake(attendgen("generate", run, "Tu vas", "--attention", tmp_path / "map.xyz"), "map.xyz")
    assert_mistake(attendgen("generate", run, "Tu vas", "--min-length", "9", "--max-length", "8"), "min-length 9")
    assert_mistake(
        attendgen("generate", run, "Tu vas", "--length-penalty-type avg", "--length-penalty", "1"), "exclude each other"
    )
    assert_mistake(attendgen("generate", run, "Tu vas", "--score", ""), "score: empty text")
    assert_mistake(attendgen("generate", run, "Tu vas", "--score", "oui", "--beam", "3"), "--beam")
    assert_mistake(attendgen("generate", trained["flickr8k_soft"], "Tu vas"), "attendgen caption")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_caption_takes_any_picture(attendgen: Command, trained, tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"photo{'.tif' if mode == 'CMYK' else '.png'}"
    gray = Image.fromarray(np.arange(97 * 33, dtype=np.uint16).reshape(33, 97))
    (gray if mode == "I;16" else gray.convert("L").convert(mode)).save(path)
    outcome = attendgen("caption", trained["flickr8k_soft"], path, "--out", tmp_path, "--max-length", "4")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.split()) <= 4
    assert Image.open(tmp_path / "photo_attention.png").format == "PNG"


def test_caption_writes_one_page_for_all(attendgen: Command, trained, tmp_path: Path) -> None:
    paths = [tiny_data.image(tmp_path / name / "photo.png", "red") for name in "ab"]
    page = tmp_path / "page.html"
    outcome = attendgen(
        "caption", trained["flickr8k_soft"], *paths, "--out", tmp_path, "--html", page, "--max-length", 3
    )
    assert outcome.code == 0, outcome.err
    assert {path.name for path in tmp_path.glob("*.png")} == {"photo_attention.png", "photo_2_attention.png"}
    text = page.read_text()
    assert text.count("<img") == 2
    assert not re.search(r'(src|href)="(?!data:)', text), "the page needs no other file"


def test_caption_refuses_broken_pictures_before_writing(attendgen: Command, trained, tmp_path: Path) -> None:
    good = tiny_data.image(tmp_path / "good.png", "red")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((tiny_data.image(tmp_path / "whole.jpg", "red", (300, 300))).read_bytes()[:800])
    out = tmp_path / "out"
    assert_mistake(attendgen("caption", trained["flickr8k_soft"], good, broken, "--out", out), "broken.jpg")
    assert_mistake(attendgen("caption", trained["flickr8k_soft"], good, tmp_path / "no.jpg", "--out", out), "no.jpg")
    assert_mistake(attendgen("caption", trained["toy_chat"], good, "--out", out), "no captioner")
    assert not out.exists()


@pytest.mark.parametrize("name", ["config.yaml", "vocabulary.json", "checkpoints"])
def test_a_run_with_a_missing_file(attendgen: Command, trained, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(trained["toy_chat"], tmp_path / "run")
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    assert_mistake(attendgen("generate", run, "Tu vas"), name)


def test_a_run_with_broken_files(attendgen: Command, trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained["toy_chat"], tmp_path / "run")
    best = run / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt")
    torch.save({"weights": torch.zeros(1)}, best)
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt", "not a checkpoint of AttendGen")
    best.write_bytes(whole)
    (run / "vocabulary.json").write_text('{"source": {}}')
    assert_mistake(attendgen("generate", run, "Tu vas"), "vocabulary.json")
    (run / "vocabulary.json").write_text("{")
    assert_mistake(attendgen("generate", run, "Tu vas"), "vocabulary.json", "line 1")


def test_a_checkpoint_of_another_family(attendgen: Command, trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained["toy_chat"], tmp_path / "run")
    shutil.copy(trained["novels"] / "checkpoints" / "best.ckpt", run / "checkpoints" / "best.ckpt")
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt", "LanguageModelTask", "Seq2SeqTask")


def test_a_lone_checkpoint_is_a_run(attendgen: Command, trained, tmp_path: Path) -> None:
    best = trained["toy_chat"] / "checkpoints" / "best.ckpt"
    assert attendgen("generate", best, "Tu vas").out == attendgen("generate", trained["toy_chat"], "Tu vas").out
    assert_mistake(attendgen("evaluate", best), "best.ckpt", "--out")


def test_runs_lists_experiments_and_scores(attendgen: Command, trained) -> None:
    outcome = attendgen("runs", trained["toy_chat"].parent)
    assert outcome.code == 0
    for word in ("toy_chat", "novels", "flickr8k_soft", "val/bits_per_character", "val/bleu4", "val/exact_match"):
        assert word in outcome.out
