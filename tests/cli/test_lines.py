"""`attendgen generate --input`: a line in, a line out."""

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest

from attendgen.cli import lines
from attendgen.cli.app import main
from attendgen.inference.load import load
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns

TEXTS = ["Quoi de neuf dans ta vie ?", "Salut", "", "- Tu vas bien ?", "Salut", " "]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    path = tmp_path / "sources.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    return path


def test_each_line_has_the_output_of_its_text_alone(
    attendgen: Command, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK", 2)
    model = load("toy-chat")
    expected = [model.generate(text)[0].text if text.strip() else "" for text in TEXTS]
    printed = attendgen("generate", "toy-chat", "--input", sources)
    assert printed.code == 0, printed.err
    assert printed.out == "\n".join(expected) + "\n"
    output = tmp_path / "outputs.txt"
    assert attendgen("generate", "toy-chat", "--input", sources, "--output", output)[:2] == (0, "")
    assert output.read_text() == printed.out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sources.read_bytes())))
    assert attendgen("generate", "toy-chat", "--input", "-").out == printed.out


def test_killed_command_goes_on_where_it_was(attendgen: Command, sources: Path, tmp_path: Path) -> None:
    output, again = tmp_path / "outputs.txt", ("--output", tmp_path / "outputs.txt", "--resume")
    assert attendgen("generate", "toy-chat", "--input", sources, *again).code == 0
    whole = output.read_text()
    output.write_text(f"{whole.splitlines()[0]}\nunfinis")
    assert_mistake(attendgen("generate", "toy-chat", "--input", sources, "--output", output), "outputs.txt", "--resume")
    assert attendgen("generate", "toy-chat", "--input", sources, *again).code == 0
    assert output.read_text() == whole
    assert attendgen("generate", "toy-chat", "--input", sources, *again).code == 0
    assert output.read_text() == whole
    output.write_text(whole + "one more\n")
    assert_mistake(attendgen("generate", "toy-chat", "--input", sources, *again), "outputs.txt", "7 lines")


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        monkeypatch.setattr(sys, "argv", ["attendgen", "generate", "toy-chat", "Salut"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
    assert [line for line in capfd.readouterr().err.splitlines() if not line.startswith("search: ")] == []


def test_lines_of_unknown_tokens_stay_blank_and_are_named(attendgen: Command, tmp_path: Path) -> None:
    (tmp_path / "sources.txt").write_text("жжж\nSalut\n日本")
    outcome = attendgen("generate", "toy-chat", "--input", tmp_path / "sources.txt")
    assert outcome.code == 3
    assert outcome.out == f"\n{load('toy-chat').generate('Salut')[0].text}\n\n"
    assert "lines 1, 3" in outcome.err


def test_blank_line_lets_a_language_model_begin_a_text(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    (tmp_path / "contexts.txt").write_text("It was\n\n")
    run, options = runs("novels"), ("--temperature", 0, "--max-length", 20)
    outcome = attendgen("generate", run, "--input", tmp_path / "contexts.txt", *options)
    assert outcome.code == 0, outcome.err
    began = attendgen("generate", run, "", *options)
    assert began.code == 0, began.err
    assert outcome.out.splitlines()[1].split() == began.out.split()


def test_options_that_do_not_belong_to_lines_are_refused(
    attendgen: Command, runs: SharedRuns, sources: Path, tmp_path: Path
) -> None:
    command = ("generate", runs("toy_chat"), "--input", sources)
    assert_mistake(attendgen(*command, "Salut"), "--input", "TEXT")
    assert_mistake(attendgen(*command, "--score", "oui"), "--input", "--score")
    assert_mistake(attendgen(*command, "--beam", 3, "--n-best", 2), "--n-best")
    assert_mistake(attendgen(*command, "--resume"), "--output")
    assert_mistake(attendgen("generate", runs("toy_chat"), "Salut", "--output", tmp_path / "o"), "--output", "--input")
    assert_mistake(attendgen("generate", runs("toy_chat"), "-x"), "-x", "after --")
    assert not (tmp_path / "o").exists()
