"""Figures for papers: `--attention FILE` with chosen words."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from attendgen.cli.figures import choose_words
from helpers import tiny_data
from helpers.attention_pages import make_caption, make_result
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import SharedRuns


def list_texts(path: Path) -> list[str]:
    return [element.text.strip() for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def test_words_are_chosen_in_the_order_of_the_output() -> None:
    result = make_caption("a dog and a frisbee <eos>", [0, 1, 2, 3, 4, 5])
    chosen = choose_words(result, "Frisbee, a")
    assert chosen.tokens == ["a", "a", "frisbee"]
    np.testing.assert_array_equal(chosen.attention, result.attention[[0, 3, 4]])
    assert choose_words(result, None) is result
    assert "no word 'cat' in the output 'a dog and a frisbee'" in refusal(choose_words, result, "dog,cat")


def test_letters_of_a_word_are_chosen_together() -> None:
    result = make_result(list("un chat"), np.eye(7), source=list("the cat"), text="un chat")
    assert choose_words(result, "chat").tokens == list("chat")


def test_a_caption_s_figure_shows_the_chosen_words_as_text(
    attendgen: Command, runs: SharedRuns, tmp_path: Path
) -> None:
    image, figure = tiny_data.image(tmp_path / "photo.png", "red"), tmp_path / "figure.svg"
    command = ("caption", runs("flickr8k_soft"), image, "--out", tmp_path, "--max-length", 4)
    words = attendgen(*command).out.split()
    outcome = attendgen(*command, "--attention", figure, "--words", words[1])
    assert outcome.code == 0, outcome.err
    assert set(list_texts(figure)) == {words[1]}
    assert_mistake(attendgen(*command, "--attention", figure, "--words", "unheard"), "--words", "'unheard'")


def test_a_matrix_shows_the_chosen_words_as_text(attendgen: Command, tmp_path: Path) -> None:
    figure = tmp_path / "figure.svg"
    options = ("--attention", figure, "--words", "vais")
    outcome = attendgen("generate", "toy-chat", "tu vas bien", *options)
    assert outcome.code == 0, outcome.err
    assert {*"tu", "v", "a", "i", "s"} <= set(list_texts(figure))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--words", "dog"), ("--words dog", "--attention FILE")),
        (("--attention", "map.gif"), ("map.gif", ".svg")),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    image = tiny_data.image(tmp_path / "photo.png", "red")
    out = tmp_path / "out"
    assert_mistake(attendgen("caption", runs("flickr8k_soft"), image, "--out", out, *options), *parts)
    two = ("caption", runs("flickr8k_soft"), image, image, "--out", out, "--attention", "map.png")
    assert_mistake(attendgen(*two), "--attention map.png", "one image")
    assert not out.exists()
