"""Unknown words and the search are named beside the outputs."""

import json
import re
from pathlib import Path

import pytest

from attendgen.cli.notes import UnknownTokens
from attendgen.config.instantiate import instantiate
from attendgen.decoding.config import DecodingConfig, describe_search
from attendgen.decoding.processors import RepetitionPenalty
from attendgen.evaluation.options import settle_search
from attendgen.inference.load import load
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_unknown_words_and_the_search_are_named(attendgen: Command, tmp_path: Path) -> None:
    outcome = attendgen("generate", "multi30k-fr-en", "Un homme XYZZY dort, PLUGH.", "--beam", 2)
    assert outcome.code == 0, outcome.err
    assert "search: beam search max_length=60 beam_size=2\n" in outcome.err
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
    run, options = runs("toy_chat"), ("--out", tmp_path, "decoding.max_length=4")
    outcome = attendgen("evaluate", run, "--beam", 2, *options)
    assert outcome.code == 0
    assert "search: beam search max_length=4 beam_size=2\n" in outcome.err
    (settings,) = tmp_path.glob("settings_val.*.json")
    assert json.loads(settings.read_text())["decoding"]["beam_size"] == 2
    assert_mistake(attendgen("evaluate", run, "--beam", 2, "decoding.beam_size=3"), "decoding.beam_size: given twice")


MBR = {"beam_size": 3, "mbr_samples": 4}
SAMPLING = {"temperature": 0.9, "top_k": 5}


@pytest.mark.parametrize(
    ("saved", "given", "search"),
    [
        (MBR, {"beam_size": 2}, "re-ranked beam search beam_size=2 mbr_samples=4"),
        (MBR, {"beam_size": 1}, "greedy"),
        (MBR, {"temperature": 0.0}, "greedy"),
        (MBR, {"temperature": 0.5}, "re-ranked beam search beam_size=3 temperature=0.5 mbr_samples=4"),
        (MBR, {"beam_size": 5, "mbr_samples": 0}, "beam search beam_size=5"),
        (SAMPLING, {"beam_size": 2}, "beam search beam_size=2"),
        (SAMPLING, {"temperature": 0.0}, "greedy"),
        (SAMPLING, {"max_length": 9}, "sampling temperature=0.9 top_k=5"),
        ({"beam_size": 4, "length_penalty": 1.0}, {"length_penalty_type": "avg"}, "length_penalty_type=avg"),
    ],
)
def test_a_search_is_the_same_in_all_commands(saved: dict, given: dict, search: str) -> None:
    model = load("toy-chat")
    model.run.config.decoding.update(saved)
    config = settle_search(model.run, [f"decoding.{name}={value}" for name, value in given.items()])
    evaluated = instantiate(config.task.decoding, "decoding")
    assert evaluated == model.make_decoding(given)
    assert search in re.sub(r" max_length=\d+", "", describe_search(evaluated))


def test_processors_are_named_by_their_classes() -> None:
    search = describe_search(DecodingConfig(processors=[RepetitionPenalty(1.2)]))
    assert search == "greedy processors=RepetitionPenalty"
