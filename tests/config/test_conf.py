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
from attendgen.config.resolvers import get_direction, register_resolvers
from attendgen.utils.resources import get_conf_dir

ROOT = Path(__file__).parents[2]
GROUPS = {
    "data": [],
    "data/source": ["experiment=flickr8k_soft"],
    "model": [],
    "model/encoder": ["experiment=flickr8k_soft"],
    "model/attention": [],
    "model/decoder": [],
    "task": [],
    "task/estimator": ["experiment=flickr8k_hard"],
    "task/optimizer": [],
    "task/schedule": [],
    "task/pretrained_embeddings": ["experiment=flickr8k_soft"],
    "trainer": [],
    "decoding": [],
    "logger": [],
    "callbacks": [],
}
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((get_conf_dir() / group).glob("*.yaml"))]


def composed(*choices: str, **options: bool) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        return compose("train", [*choices], **options)


def targets(node: object) -> list[str]:
    """Every `_target_` below a node."""
    if isinstance(node, dict):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_and_its_targets_exist(group: str, name: str) -> None:
    found = targets(OmegaConf.to_container(composed(*GROUPS[group], f"{group}={name}"), resolve=False))
    assert found
    for target in found:
        assert get_object(target) is not None


def test_every_group_is_tested() -> None:
    folders = {str(path.parent.relative_to(get_conf_dir())) for path in get_conf_dir().rglob("*.yaml")}
    # below, in test_overrides.py, tests/sweeps and tests/training/test_debug.py
    elsewhere = {"ablation", "ablation/table", "debug", "experiment", "sweep"}
    assert folders - elsewhere - {".", "hydra", "hydra/job_logging", "local", "paths"} == GROUPS.keys()


@pytest.mark.parametrize("path", sorted((get_conf_dir() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_header_of_an_experiment_is_short_and_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    assert lines[0] == "# @package _global_"
    header = lines[1:end]
    assert 1 <= len(header) <= 5
    assert any(re.match(rf"# run: +attendgen train experiment={path.stem}\b", line) for line in header)
    assert max(map(len, lines)) <= 120
    for page in re.findall(r"docs/[\w/]+\.md", "\n".join(header)):
        assert (ROOT / page).is_file(), page


def test_every_experiment_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"experiment=(\w+)", readme)) - {"NAME"}
    assert named
    assert named <= {path.stem for path in (get_conf_dir() / "experiment").glob("*.yaml")}


DECODERS = sorted(path.stem for path in (get_conf_dir() / "model" / "decoder").glob("*.yaml"))
ATTENTION = ["general", "scaled_general", "additive", "mean"]
CASES = [(name, "bahdanau", each) for name in ("multi30k_fr_en", "multi30k_fr_en_words") for each in ATTENTION]
CASES += [("multi30k_fr_en", decoder, "additive") for decoder in DECODERS if decoder != "bahdanau"]
CASES += [(name, None, each) for name in ("novels", "shapes", "flickr8k_soft") for each in ATTENTION]
CASES += [(name, decoder, "additive") for name in ("novels", "shapes") for decoder in DECODERS]
TINY = {"multi30k": ["model.encoder_hidden=4"], "flickr8k": ["model.encoder.pretrained=false"]}


@pytest.mark.parametrize(("experiment", "decoder", "attention"), CASES)
def test_an_experiments_attention_and_decoder_can_be_exchanged(
    experiment: str, decoder: str | None, attention: str
) -> None:
    """What an experiment sets for its own choice must not reach another."""
    family = experiment.split("_")[0]
    choices = [f"experiment={experiment}", f"model/attention={attention}", "model.hidden=4", *TINY.get(family, [])]
    choices += [f"model/decoder={decoder}"] if decoder else []
    config = composed(*choices)
    sizes = ["source_vocab_size", "target_vocab_size"] if family == "multi30k" else ["vocab_size"]
    model = instantiate(config.model, "model", **dict.fromkeys(sizes, 9))
    chosen = [get_object(config.model.attention._target_)]
    chosen += [get_object(config.model.decoder._target_)] if decoder else []
    for kind in chosen:
        assert any(type(module) is kind for module in model.modules())


ABLATIONS = sorted(path.stem for path in (get_conf_dir() / "ablation").glob("*.yaml"))


def test_an_ablation_changes_one_part_of_a_captioner() -> None:
    made = {}
    for name in ABLATIONS:
        choices = ["experiment=flickr8k_soft", f"ablation={name}", "model/encoder=small_cnn", "model.hidden=4"]
        config = composed(*choices, "model.encoder.size=16", "model.embedding_dim=4")
        made[name] = OmegaConf.to_container(config)
        model = instantiate(config.model, "model", vocab_size=9)
        logits, _ = model(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.tensor([[[1, 5, 6]]]))
        assert logits.isfinite().all()
    reference = made.pop("reference")
    for name, config in made.items():
        changed = {group for group in config if config[group] != reference[group]}
        assert changed == {"task" if name == "no_penalty" else "model"}
    assert len({json.dumps(config, sort_keys=True) for config in made.values()}) == len(made)


def test_ablations_of_tables_add_one_part_after_the_other() -> None:
    order = ["lstm", "gru", "gate", "second_look", "rows", "copy"]
    sizes = ["kind", "entity", "value", "place", "target"]
    assert sorted(order) == sorted(path.stem for path in (get_conf_dir() / "ablation" / "table").glob("*.yaml"))
    weights = []
    for name in order:
        config = composed("experiment=e2e_cleaned", f"ablation=table/{name}", "model.hidden=4", "model.encoder.dim=4")
        model = instantiate(config.model, "model", **{f"{size}_vocab_size": 9 for size in sizes})
        weights.append({key for key, _ in model.named_parameters()})
        shapes = {key: tuple(weight.shape) for key, weight in model.named_parameters()}
        if name == "gate":
            assert shapes["decoder.hidden_gates.weight"] == (12, 4)
    lstm, gru, gate, second_look, rows, copy = weights
    assert "decoder.recurrent_gates.weight" in lstm
    assert gru == gate
    assert second_look - gate == {"decoder.second_query.weight"}
    assert all(".attention." in key for key in rows ^ second_look)
    assert copy - rows == {"copying.switch.weight", "copying.switch.bias"}


def test_runs_that_start_together_have_directories_of_their_own() -> None:
    configs = [composed("experiment=toy_chat", return_hydra_config=True) for _ in range(3)]
    folders = {str(config.hydra[mode].dir) for config in configs for mode in ("run", "sweep")}
    assert len(folders) == 6


def test_the_experiments_name_is_part_of_the_folder() -> None:
    for choices, name in ((["experiment=toy_chat"], "toy_chat"), ([], "custom")):
        config = composed(*choices, return_hydra_config=True)
        assert config.hydra.run.dir.startswith(f"outputs/{name}/")
        assert config.hydra.sweep.dir.startswith(f"outputs/multirun/{name}/")


def test_an_environment_variable_is_the_folder_of_all_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTENDGEN_DATA", raising=False)
    assert composed("experiment=novels").data.root == "data/novels"
    monkeypatch.setenv("ATTENDGEN_DATA", "/big/data")
    for experiment, folder in (("novels", "novels"), ("flickr8k_soft", "flickr8k"), ("multi30k_fr_en", "multi30k")):
        config = composed(f"experiment={experiment}")
        assert (config.paths.data, config.data.root) == ("/big/data", f"/big/data/{folder}")
    assert composed("experiment=novels", "paths.data=here").data.root == "here/novels"


def test_a_search_minimizes_or_maximizes() -> None:
    assert (get_direction("min"), get_direction("max")) == ("minimize", "maximize")
    with pytest.raises(ValueError, match=r"monitor\.mode=None"):
        get_direction(None)
