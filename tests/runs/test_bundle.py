"""The bundled models work, are small, and hold nothing of the machine that made them."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_object
from PIL import Image
from safetensors import safe_open

import attendgen
from attendgen.config.trust import NAMES, require_trusted
from attendgen.data.captions.features import fingerprint
from attendgen.data.tsv import read_pairs
from attendgen.models.encoders.efficientnet_lite import EfficientNetLite
from attendgen.runs.bundle import bundle
from attendgen.runs.layout import CONFIG, WEIGHTS
from attendgen.runs.run import Run
from attendgen.utils.resources import bundled_file, bundled_models, get_conf_dir
from helpers.errors import refusal
from helpers.runs import SharedRuns

MODELS = bundled_models()
CONFIGS = [*sorted(get_conf_dir().rglob("*.yaml")), *(folder / CONFIG for folder in MODELS.values())]


def find_targets(node: object) -> Iterator[str]:
    """Yield every `_target_` of nested data."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key.rpartition(".")[2] == "_target_":
                yield value
            else:
                yield from find_targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from find_targets(value)


def test_five_models_are_bundled() -> None:
    assert {"toy-chat", "multi30k-fr-en", "novels", "flickr8k-soft", "flickr8k-hard", "e2e"} <= set(MODELS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_target_resolves(path: Path) -> None:
    for target in find_targets(yaml.safe_load(path.read_text(encoding="utf-8"))):
        assert callable(get_object(target)), target


def test_configs_have_targets() -> None:
    found = {
        path.parent.name: targets
        for path in CONFIGS
        if (targets := list(find_targets(yaml.safe_load(path.read_text(encoding="utf-8")))))
    }
    assert {*MODELS, "model", "task", "encoder", "estimator", "data", "decoding", "callbacks"} <= set(found)


@pytest.mark.parametrize("name", MODELS)
def test_config_of_a_bundled_model_holds_public_names_only(name: str) -> None:
    config = yaml.safe_load((MODELS[name] / CONFIG).read_text(encoding="utf-8"))
    require_trusted(config, name)
    for target in find_targets(config):
        package, _, public = target.rpartition(".")
        if package != "torch.optim":
            assert target in NAMES
            assert package.count(".") == 1, "a class is named by its package, not by its module"
            assert public in import_module(package).__all__


@pytest.mark.parametrize("name", MODELS)
def test_bundled_model_is_small_and_described(name: str) -> None:
    folder: Path = MODELS[name]
    assert (folder / WEIGHTS).stat().st_size <= 20e6
    assert (folder / "README.md").read_text(encoding="utf-8").strip()
    for path in folder.glob("*.yaml"):
        assert "/work" not in path.read_text(encoding="utf-8")


def test_toy_chat_answers_every_question() -> None:
    model = attendgen.load("toy-chat")
    pairs = read_pairs(bundled_file("toy_chat.tsv"))
    found = model.generate_all([question for question, _ in pairs])
    assert [outputs[0].text for outputs in found] == [answer for _, answer in pairs]


def test_translator_translates() -> None:
    model = attendgen.load("multi30k-fr-en")
    text = model.generate("Un homme dort sur un canapé.")[0].text
    assert {"man", "couch"} <= set(text.rstrip(".").split())


def test_writer_says_all_facts() -> None:
    model = attendgen.load("e2e")
    text = model.generate("name[The Eagle], food[French], area[riverside], near[Burger King]")[0].text
    assert all(value in text for value in ("The Eagle", "French", "riverside", "Burger King"))


@pytest.mark.parametrize("name", ["flickr8k-soft", "flickr8k-hard"])
def test_captions_depend_on_the_image(name: str) -> None:
    model = attendgen.load(name)
    found = [model.caption(Image.new("RGB", (60, 40), color))[0] for color in ("blue", "black")]
    assert found[0].text != found[1].text
    for result in found:
        assert {"a", "the", "in"} & set(result.text.split())
        np.testing.assert_allclose(result.attention.sum(axis=-1), 1.0, rtol=1e-4)


def test_encoder_of_another_package_is_left_out_and_restored(tmp_path: Path) -> None:
    run = Run.find("flickr8k-soft")
    with safe_open(run.checkpoint, "pt") as file:
        assert not any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118
    model, own = run.load_model(), EfficientNetLite("lite2")
    assert fingerprint(model.encoder) == fingerprint(own)
    bundle(run, "again", tmp_path, {"data.root": "data", "data.cache": "data/cache"})
    again = Run(tmp_path, tmp_path / WEIGHTS, run.config, run.vocabulary).load_model()
    expected = {
        name: weight if name.startswith("encoder.") else weight.half().float()  # saved in half precision
        for name, weight in model.state_dict().items()
    }
    torch.testing.assert_close(dict(again.state_dict()), expected, rtol=0, atol=0)


def test_absolute_path_in_the_config_is_refused(runs: SharedRuns, tmp_path: Path) -> None:
    assert "data.root=/" in refusal(bundle, Run.find(runs("toy_chat")), "chat", tmp_path / "chat", {})
    assert not (tmp_path / "chat").exists()
