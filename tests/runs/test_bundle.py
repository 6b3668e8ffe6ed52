"""The models that travel with the package work, are small, and say nothing of the machine that made them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import attendgen
from attendgen.data.captions.features import fingerprint
from attendgen.data.tsv import read_pairs
from attendgen.models.encoders.efficientnet_lite import EfficientNetLite
from attendgen.runs.bundle import bundle
from attendgen.runs.run import WEIGHTS, Run
from attendgen.utils.resources import bundled_file, bundled_models

MODELS = bundled_models()


def test_there_are_some() -> None:
    assert {"toy-chat", "multi30k-fr-en", "novels", "flickr8k-soft", "flickr8k-hard"} <= set(MODELS)


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


@pytest.mark.parametrize("name", ["flickr8k-soft", "flickr8k-hard"])
def test_the_captioners_look_at_the_picture(name: str) -> None:
    model = attendgen.load(name)
    found = [model.caption(Image.new("RGB", (60, 40), color))[0] for color in ("blue", "black")]
    assert found[0].text != found[1].text
    for result in found:
        assert {"a", "the", "in"} & set(result.text.split())
        np.testing.assert_allclose(result.attention.sum(axis=-1), 1.0, rtol=1e-4)


def test_a_packaged_encoder_is_left_out_and_found_again(tmp_path: Path) -> None:
    run = Run.find("flickr8k-soft")
    with safe_open(run.checkpoint, "pt") as file:
        assert not any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118
    model, own = run.load_model(), EfficientNetLite("lite2")
    assert fingerprint(model.encoder) == fingerprint(own)
    bundle(run, "again", tmp_path, {"data.root": "data", "data.cache": "data/cache"})
    again = Run(tmp_path, tmp_path / WEIGHTS, run.config, run.vocabulary).load_model()
    expected = {
        name: weight if name.startswith("encoder.") else weight.half().float()  # kept in sixteen bits
        for name, weight in model.state_dict().items()
    }
    torch.testing.assert_close(dict(again.state_dict()), expected, rtol=0, atol=0)
