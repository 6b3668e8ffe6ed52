"""`--temperature 0` and `--beam 1` decode every bundled model greedily, whatever its own decoding is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attendgen as package
from attendgen.data.batch import pad_cells
from attendgen.data.captions.images import open_image, to_pixels
from attendgen.utils.resources import bundled_models
from attendgen.utils.special_tokens import EOS, PAD, SOS
from helpers import tiny_data
from helpers.errors import Command

TEXTS = {"toy-chat": "Tu vas bien ?", "multi30k-fr-en": "Un homme dort sur un canapé."}
CAPTIONERS = ("flickr8k-soft", "flickr8k-hard")
LENGTH = 24
FLAGS = [("--temperature", 0), ("--beam", 1)]


def choose_greedily(model: Any, inputs: torch.Tensor, suppressed: list[int], first: int = SOS, eos: int = EOS) -> list:
    """Return the most probable tokens, one after the other."""
    tokens, last = [], torch.tensor([first])
    memory, state = model.encode(inputs)
    while len(tokens) < LENGTH and (not tokens or tokens[-1] != eos):
        log_probs, _, state = model.step(last, state, memory)
        log_probs[:, suppressed] = -torch.inf
        last = log_probs.argmax(dim=-1)
        tokens.append(int(last))
    return tokens


@pytest.fixture
def generate(attendgen: Command) -> Callable[..., str]:
    """Run a command with each option that makes it greedy; returns what all of them print."""

    def run(*arguments: object) -> str:
        outcomes = [attendgen(*arguments, *flag, "--max-length", LENGTH) for flag in FLAGS]
        for outcome, flag in zip(outcomes, FLAGS, strict=True):
            assert outcome.code == 0, outcome.err
            assert outcome.out == outcomes[0].out, flag
        return outcomes[0].out.rstrip("\n")

    return run


def test_all_bundled_models_are_covered() -> None:
    assert set(bundled_models()) == {*TEXTS, *CAPTIONERS, "novels", "e2e"}


@pytest.mark.parametrize("name", TEXTS)
@torch.inference_mode()
def test_outputs_of_texts_are_greedy(generate: Callable[..., str], name: str) -> None:
    translator = package.load(name)
    target = translator.vocabulary.target
    inputs = torch.tensor([translator.vocabulary.source.encode(TEXTS[name])])
    suppressed = [PAD, SOS, *([target.unknown] if target.unknown is not None else [])]
    found = generate("generate", name, TEXTS[name])
    assert found == target.decode(choose_greedily(translator.model, inputs, suppressed))
    assert found == translator.generate(TEXTS[name], beam_size=1, max_length=LENGTH)[0].text


@pytest.mark.parametrize(
    "name", [CAPTIONERS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in CAPTIONERS[1:])]
)
@torch.inference_mode()
def test_captions_are_greedy(generate: Callable[..., str], tmp_path: Path, name: str) -> None:
    image = tiny_data.image(tmp_path / "blue.png", "blue", (60, 40))
    captioner = package.load(name)
    features = captioner.model.encode_images(_pixels(captioner, image))
    vocabulary = captioner.vocabulary
    expected = choose_greedily(captioner.model, features, [PAD, SOS, vocabulary.unknown])
    found = generate("caption", name, image, "--out", tmp_path)
    assert found == vocabulary.decode(expected)
    assert found == captioner.caption(image, beam_size=1, max_length=LENGTH)[0].text


def _pixels(captioner: Any, path: Path) -> torch.Tensor:
    return to_pixels(open_image(path), captioner.model.encoder.size).unsqueeze(0)


@torch.inference_mode()
def test_continuations_are_greedy(generate: Callable[..., str]) -> None:
    generator = package.load("novels")
    vocabulary = generator.vocabulary
    ids = torch.tensor([vocabulary.encode("It was the ")])
    expected = choose_greedily(generator.model, ids, [PAD, SOS, EOS, vocabulary.unknown], int(ids[0, -1]), eos=-1)
    found = generate("generate", "novels", "It was the ")
    assert found == "".join(vocabulary.tokens[i] for i in expected).rstrip("\n")


@torch.inference_mode()
def test_texts_about_tables_are_greedy(generate: Callable[..., str]) -> None:
    writer, table = package.load("e2e"), "name[The Eagle], food[French], area[riverside]"
    vocabulary = writer.vocabulary
    cells = pad_cells([vocabulary.encode(writer.encode_text(table))])
    target = vocabulary.target
    found = generate("generate", "e2e", table)
    assert found == target.decode(choose_greedily(writer.model, cells, [PAD, SOS, target.unknown]))
