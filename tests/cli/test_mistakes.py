"""Mistakes of the user end with exit code 2 and one line that names the file or field."""

import io
import os
import shutil
from pathlib import Path

import pytest
import torch

from attendgen.cli.app import print_any_text
from helpers import tiny_data
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["generate"], ["generate", "--frob", "RUN", "text"], ["evaluate", "--split"], ["runs", "nowhere"]],
)
def test_wrong_command_or_option(attendgen: Command, arguments: list[str]) -> None:
    assert_mistake(attendgen(*arguments))


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "toy-chat", "tu vas bien?", "--attention", "--beam", "3"],
        ["evaluate", "toy-chat", "--out", "--split", "val"],
        ["runs", ".", "--metrics", "--by", "setting"],
        ["merge", "toy-chat", "toy-chat", "--out", "--weights", "1,1"],
    ],
    ids=" ".join,
)
def test_an_option_is_no_value_of_another(attendgen: Command, command: list[str]) -> None:
    taker = next(argument for argument in command if argument.startswith("--"))
    following = command[command.index(taker) + 1]
    assert_mistake(attendgen(*command), f"{taker}: needs a value, before {following}")


def test_unknown_experiment(attendgen: Command) -> None:
    assert_mistake(attendgen("train", "experiment=nope"), "experiment/nope", "toy_chat")


@pytest.mark.parametrize("name", ["config.yaml", "vocabulary.json", "checkpoints"])
def test_run_with_a_missing_file(attendgen: Command, runs: SharedRuns, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    assert_mistake(attendgen("generate", run, "Tu vas"), name)


def test_run_with_broken_files(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    best = run / "checkpoints" / "best.ckpt"
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt")
    torch.save({"weights": torch.zeros(1)}, best)
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt", "give a checkpoint of AttendGen")
    best.write_bytes(whole)
    (run / "vocabulary.json").write_text('{"source": {}}')
    assert_mistake(attendgen("generate", run, "Tu vas"), "vocabulary.json")
    (run / "vocabulary.json").write_text("{")
    assert_mistake(attendgen("generate", run, "Tu vas"), "vocabulary.json", "line 1")


def test_checkpoint_of_another_family(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    shutil.copy(runs("novels") / "checkpoints" / "best.ckpt", run / "checkpoints" / "best.ckpt")
    assert_mistake(attendgen("generate", run, "Tu vas"), "best.ckpt", "language_model", "seq2seq")


def test_evaluate_refuses_wrong_arguments_and_writes_nothing(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    run, text = shutil.copytree(runs("toy_chat"), tmp_path / "run"), tmp_path / "text.txt"
    text.write_text("text")
    empty = tmp_path / "empty.txt"
    empty.touch()
    before = sorted(run.rglob("*"))
    assert_mistake(attendgen("evaluate", run, "--text", text), "--text")
    assert_mistake(attendgen("evaluate", run, "--split", "holdout"), "holdout")
    assert_mistake(attendgen("evaluate", run, "data.bath_size=3"), "data.bath_size")
    assert_mistake(attendgen("evaluate", run, "nonsense"), "nonsense")
    assert_mistake(attendgen("evaluate", run, "--dynamic-eval-lr", "1"), "--dynamic-eval-lr")
    assert_mistake(attendgen("evaluate", run, "--dynamic-decay", "1"), "--dynamic-decay", "--dynamic-eval-lr")
    assert_mistake(attendgen("evaluate", run, "--out", text), "text.txt: cannot be written")
    novels = runs("novels")
    assert_mistake(attendgen("evaluate", novels, "--out", tmp_path, "--text", tmp_path / "none.txt"), "none.txt")
    assert_mistake(attendgen("evaluate", novels, "--out", tmp_path, "--text", empty), "empty.txt", "empty")
    captioner = runs("flickr8k_soft")
    assert_mistake(attendgen("evaluate", captioner, "--out", tmp_path, "--split", "test"), "Flickr_8k.testImages.txt")
    assert sorted(run.rglob("*")) == before
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("experiment", ["toy_chat", "novels"])
def test_generate_refuses_a_text_without_known_characters(
    attendgen: Command, runs: SharedRuns, experiment: str
) -> None:
    run = runs(experiment)
    assert_mistake(attendgen("generate", run, "жжж"), "жжж", "never seen")
    assert_mistake(attendgen("generate", run, "It was", "--temperature", "-1"), "decoding.temperature=-1")
    assert_mistake(attendgen("generate", run, "It was", "--beam", "0"), "decoding.beam_size=0")
    assert_mistake(attendgen("generate", run, "It was", "--top-p", "2"), "decoding.top_p=2")


def test_generate_refuses_options_that_exclude_each_other(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    run = runs("toy_chat")
    assert_mistake(attendgen("generate", run, "Tu vas", "--n-best", "3"), "decoding.n_best=3")
    assert_mistake(attendgen("generate", run, "Tu vas", "--attention", tmp_path / "map.xyz"), "map.xyz")
    assert_mistake(
        attendgen("generate", run, "Tu vas", "--min-length", "9", "--max-length", "8"), "decoding.min_length=9"
    )
    assert_mistake(
        attendgen("generate", run, "Tu vas", "--length-penalty-type", "mean"),
        "decoding.length_penalty_type=mean",
        "gnmt or avg",
    )
    assert_mistake(
        attendgen("generate", run, "Tu vas", "--length-penalty-type", "avg", "--length-penalty", "1"),
        "decoding.length_penalty=1.0",
        "avg",
    )
    assert_mistake(attendgen("generate", run, "Tu vas", "--beam", 3, "--temperature", 1), "excludes sampling")
    assert_mistake(attendgen("generate", run, "Tu vas", "--mbr-samples", 20), "decoding.mbr_samples=20", "beam")
    assert_mistake(attendgen("generate", run, "Tu vas", "--score", ""), "score: empty text")
    assert_mistake(attendgen("generate", run, "Tu vas", "--score", "oui", "--beam", "3"), "--beam")
    assert_mistake(attendgen("generate", run, " "), "empty text")
    assert_mistake(attendgen("generate", run), "--prompt-file")
    novels = runs("novels")
    assert_mistake(attendgen("generate", novels, "It was", "--beam", "3"), "beam_size=3")
    assert_mistake(attendgen("generate", novels, "--prompt-file", tmp_path / "none.txt"), "none.txt")
    assert_mistake(attendgen("generate", novels, "It was", "--precision", "8"), "--precision 8", "32 or bf16")
    assert_mistake(attendgen("generate", novels, "It was", "--device", "gpu"), "--device gpu", "cuda:N")
    compiled = attendgen("generate", novels, "It was", "--device", "cpu", "--compile")
    assert_mistake(compiled, "--compile: needs a GPU; use --device cuda")
    assert_mistake(attendgen("generate", runs("flickr8k_soft"), "Tu vas"), "attendgen caption")


def test_caption_refuses_broken_images_before_writing_a_page(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    good = tiny_data.image(tmp_path / "good.png", "red")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((tiny_data.image(tmp_path / "whole.jpg", "red", (300, 300))).read_bytes()[:800])
    out = tmp_path / "out"
    run = runs("flickr8k_soft")
    assert_mistake(attendgen("caption", run, good, broken, "--html", out / "page.html"), "broken.jpg")
    assert_mistake(attendgen("caption", run, broken, "--out", out), "broken.jpg")
    assert_mistake(attendgen("caption", run, tmp_path / "no.jpg", "--out", out), "no.jpg")
    assert_mistake(attendgen("caption", runs("toy_chat"), good, "--out", out), "not a captioner")
    assert not out.exists()


def test_retrieval_of_captions_refuses_what_it_cannot_search(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    run, options = runs("flickr8k_soft"), ("decoding.beam_size=4", "decoding.retrieval_captions=2")
    image = tiny_data.image(tmp_path / "red.jpg", "red")
    caption = ("caption", run, image, "--beam", 4, "--retrieval-captions", 2, "--out", tmp_path)
    assert_mistake(attendgen(*caption, "--data", tmp_path / "nowhere"), "nowhere/Flickr_8k.trainImages.txt")
    evaluate = ("evaluate", run, "--out", tmp_path)
    assert_mistake(attendgen(*evaluate, "--split", "train", *options), "decoding.retrieval_captions=2", "split")
    assert_mistake(attendgen(*evaluate, options[0], "decoding.retrieval_captions=999"), "training images")
    chat = attendgen("evaluate", runs("toy_chat"), "--out", tmp_path, *options)
    assert_mistake(chat, "decoding.retrieval_captions=2", "captioners")


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", b"caf\xe9 \xe2\x80\x99\n"), ("latin-1", b"caf\\udce9 \\u2019\n")]
)
def test_any_text_can_be_printed(monkeypatch: pytest.MonkeyPatch, encoding: str, expected: bytes) -> None:
    """A name whose bytes are no text, and a letter that an old terminal lacks."""
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding=encoding, write_through=True))
    print_any_text()
    print(os.fsdecode(b"caf\xe9"), "\u2019")
    assert printed.getvalue() == expected
