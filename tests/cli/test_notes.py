"""Unknown words and the search are named beside the outputs."""

import json
from pathlib import Path

from attendgen.cli.notes import UnknownTokens
from attendgen.inference.load import load
from helpers.errors import Command
from helpers.runs import SharedRuns


def test_unknown_words_and_the_search_are_named(attendgen: Command, tmp_path: Path) -> None:
    outcome = attendgen("generate", "multi30k-fr-en", "Un homme XYZZY dort, PLUGH.", "--beam", 2)
    assert outcome.code == 0, outcome.err
    assert "search: max_length=60 beam_size=2\n" in outcome.err
    assert "note: 2 of 7 words are unknown to this model: XYZZY, PLUGH\n" in outcome.err
    (tmp_path / "sources.txt").write_text("Un homme dort.\nUn XYZZY.\n")
    lines = attendgen("generate", "multi30k-fr-en", "--input", tmp_path / "sources.txt")
    assert "search: greedy " in lines.err
    assert "note: 1 of 7 words are unknown to this model: XYZZY\n" in lines.err


def test_many_unknown_tokens_are_cut(capfd) -> None:
    tokens = UnknownTokens()
    tokens.add(load("toy-chat"), ["жшщюя", "фыва"])
    tokens.report("characters")
    assert capfd.readouterr().err == "note: 9 of 9 characters are unknown to this model: ж, ш, щ, ю, я, ...\n"


def test_evaluate_takes_the_options_of_decoding(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    options = ("--out", tmp_path, "decoding.max_length=4")
    assert attendgen("evaluate", runs("toy_chat"), "--beam", 2, *options).code == 0
    (settings,) = tmp_path.glob("settings_val.*.json")
    assert json.loads(settings.read_text())["decoding"]["beam_size"] == 2
