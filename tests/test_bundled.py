"""The models that travel with the package work, are small, and say nothing of the machine that made them."""

from pathlib import Path

import pytest

import attendgen
from attendgen.data.pairs import read_pairs
from attendgen.resources import bundled_file, bundled_models
from attendgen.runs import WEIGHTS

MODELS = bundled_models()


def test_there_are_some() -> None:
    assert {"toy-chat", "multi30k-fr-en"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_described(name: str) -> None:
    folder: Path = MODELS[name]
    assert (folder / WEIGHTS).stat().st_size <= 20e6
    assert (folder / "README.md").read_text(encoding="utf-8").strip()
    for path in folder.glob("*.yaml"):
        assert "/work" not in path.read_text(encoding="utf-8")


def test_the_toy_chat_answers_every_question() -> None:
    model = attendgen.load("toy-chat")
    pairs = read_pairs(bundled_file("toy_chat.tsv"))
    found = model.generate_all([question for question, _ in pairs])
    assert [outputs[0].text for outputs in found] == [answer for _, answer in pairs]


def test_the_translator_translates() -> None:
    model = attendgen.load("multi30k-fr-en")
    text = model.generate("Un homme dort sur un canapé.")[0].text
    assert {"man", "couch"} <= set(text.rstrip(".").split())
