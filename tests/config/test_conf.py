"""Every shipped config composes, and every target in it exists."""

import json
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.config.resolvers import register_resolvers
from attendgen.utils.resources import conf_dir

GROUPS = (
    "data",
    "model",
    "model/encoder",
    "model/attention",
    "model/decoder",
    "task",
    "task/estimator",
    "trainer",
    "decoding",
    "logger",
    "callbacks",
)
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


def targets(node: object) -> list[str]:
    """Every `_target_` below a node."""
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_and_its_targets_exist(group: str, name: str) -> None:
    register_resolvers()
    base = ["experiment=flickr8k_soft"] if group in ("model/encoder", "task/estimator") else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: DictConfig = compose("train", [*base, f"{group}={name}"])
    found = targets(OmegaConf.to_container(config, resolve=False))
    assert found
    for target in found:
        assert get_object(target) is not None


def test_every_experiment_that_the_readme_names_exists() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"experiment=(\w+)", readme)) - {"NAME"}
    assert named
    assert named <= {path.stem for path in (conf_dir() / "experiment").glob("*.yaml")}


DECODERS = sorted(path.stem for path in (conf_dir() / "model" / "decoder").glob("*.yaml"))
CASES = [(name, decoder) for name in ("multi30k_fr_en", "multi30k_fr_en_words") for decoder in DECODERS]
CASES += [("novels", None), ("shapes", None), ("flickr8k_soft", None)]
TINY = {"multi30k": ["model.encoder_hidden=4"], "flickr8k": ["model.encoder.pretrained=false"]}


@pytest.mark.parametrize(("experiment", "decoder"), CASES)
@pytest.mark.parametrize("attention", ["general", "scaled_general", "additive", "mean"])
def test_an_experiments_attention_and_decoder_can_be_exchanged(
    experiment: str, decoder: str | None, attention: str
) -> None:
    """What an experiment sets for its own choice must not reach another."""
    register_resolvers()
    family = experiment.split("_")[0]
    choices = [f"experiment={experiment}", f"model/attention={attention}", "model.hidden=4", *TINY.get(family, [])]
    choices += [f"model/decoder={decoder}"] if decoder else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", choices)
    sizes = ["source_vocab_size", "target_vocab_size"] if family == "multi30k" else ["symbols"]
    model = instantiate(config.model, **dict.fromkeys(sizes, 9))
    chosen = [get_object(config.model.attention._target_)]
    chosen += [get_object(config.model.decoder._target_)] if decoder else []
    for kind in chosen:
        assert any(type(module) is kind for module in model.modules())


ABLATIONS = sorted(path.stem for path in (conf_dir() / "ablation").glob("*.yaml"))


def test_an_ablation_changes_one_thing_of_a_captioner() -> None:
    register_resolvers()
    made = {}
    for name in ABLATIONS:
        choices = ["experiment=flickr8k_soft", f"ablation={name}", "model.encoder.pretrained=false", "model.hidden=4"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", [*choices, "model.encoder.size=64", "model.embedding_dim=4"])
        made[name] = OmegaConf.to_container(config)
        model = instantiate(config.model, vocab_size=9)
        logits, _ = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.tensor([[[1, 5, 6]]]))
        assert logits.isfinite().all()
    reference = made.pop("nothing")
    for name, config in made.items():
        changed = {group for group in config if config[group] != reference[group]}
        assert changed == {"task" if name == "no_penalty" else "model"}
    assert len({json.dumps(config, sort_keys=True) for config in made.values()}) == len(made)


def test_runs_that_begin_together_have_directories_of_their_own() -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = [compose("train", ["experiment=toy_chat"], return_hydra_config=True) for _ in range(3)]
    folders = {str(config.hydra[mode].dir) for config in composed for mode in ("run", "sweep")}
    assert len(folders) == 6
