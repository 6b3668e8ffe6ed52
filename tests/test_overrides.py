"""A change of a saved run's field reaches every field that refers to it."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import tiny
from attendgen.errors import UserError
from attendgen.evaluation import evaluate
from attendgen.resources import bundled_models, conf_dir, register_resolvers
from attendgen.runs import Run, read_config, recorded
from attendgen.training import run_hydra
from attendgen.vocabulary import Vocabulary

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
CHOICES = {path.stem: [f"experiment={path.stem}"] for path in sorted((conf_dir() / "experiment").glob("*.yaml"))}
CHOICES |= {name: ["experiment=flickr8k_soft", f"data={name}", "data.root=x"] for name in ("coco", "karpathy")}
CHOICES["carried"] = ["experiment=novels", "model=lm_context_carried", "data.streams=true"]


def composed(choices: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", choices)
    config.name, config.paths.run = "name", "/runs/1"
    return config


def saved(config: DictConfig, tmp_path: Path) -> Run:
    """A run with this config, written down and read again."""
    text = yaml.safe_dump(recorded(config))
    return Run(
        tmp_path, tmp_path / "best.ckpt", read_config(yaml.safe_load(text), tmp_path), Vocabulary(["a"], "words")
    )


def references(node: object, field: str = "") -> list[tuple[str, str]]:
    """Every field whose value holds a reference, with that value."""
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in references(value, f"{field}.{key}".lstrip("."))]
    return [(field, node)] if isinstance(node, str) and "${" in node else []


def other(value: object) -> object:
    """Another value of the same kind."""
    return value + 7 if isinstance(value, int) else {"max": "min", "min": "max"}.get(str(value), f"{value}_other")


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_every_interpolation_of_the_configs_is_followed(choices: list[str], tmp_path: Path) -> None:
    run = saved(composed(choices), tmp_path)
    found = references(OmegaConf.to_container(run.config))
    assert len(found) > 8
    for field, text in found:
        for referred in REFERENCE.findall(text):
            value = OmegaConf.select(run.config, referred)
            inner = "max_length" if isinstance(value, DictConfig) else ""
            changed = f"{referred}.{inner}".rstrip(".")
            new = other(OmegaConf.select(run.config, changed))
            after = run.overridden([f"{changed}={new}"])
            new = OmegaConf.select(after, changed)  # a path is made absolute
            wanted = text.replace(f"${{{referred}}}", str(new)) if not inner else new
            assert str(OmegaConf.select(after, f"{field}.{inner}".rstrip("."))) == str(wanted), (field, changed)


def test_the_callbacks_follow_the_monitored_metric_and_the_data_its_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    after = saved(composed(["experiment=novels"]), tmp_path).overridden(["monitor.metric=val/x", "paths.cache=big"])
    assert after.callbacks.best.monitor == after.callbacks.early_stopping.monitor == "val/x"
    assert after.data.cache == str(tmp_path / "big")


def test_the_length_of_a_piece_follows_that_of_the_data(tmp_path: Path) -> None:
    assert saved(composed(CHOICES["carried"]), tmp_path).overridden(["data.time=64"]).model.piece == 64


def test_a_change_of_what_refers_changes_nothing_else(tmp_path: Path) -> None:
    run = saved(composed(["experiment=toy_chat"]), tmp_path)
    after = run.overridden(["task.search.beam=7", "data.seed=5"])
    assert (after.task.search.beam, after.decoding.beam) == (7, 1)
    assert (after.data.seed, after.seed) == (5, 1)
    assert after.task.search.max_length == run.config.decoding.max_length
    for changes in (
        ["task.search.beam=7", "decoding.max_length=3"],
        ["decoding.max_length=3", "task.search={beam: 7}"],
    ):
        search = run.overridden(changes).task.search
        assert (search.beam, search.max_length, search._target_) == (7, 3, run.config.decoding._target_)


def test_what_hydra_and_the_machine_say_is_written_down(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    config = composed(["experiment=toy_chat"])
    OmegaConf.set_struct(config, False)
    config.data.root = "${oc.env:SOMEWHERE}/pairs"
    config.data.more = ["${seed}", "${oc.env:SOMEWHERE}"]
    data = recorded(config)
    assert data["data"]["root"] == "/data/pairs"
    assert data["data"]["more"] == ["${seed}", "/data"]
    assert data["data"]["train"].endswith("toy_chat.tsv")


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_models_search_follows_its_decoding(name: str) -> None:
    assert Run.find(name).overridden(["decoding.max_length=3"]).task.search.max_length == 3


def test_a_resumed_run_goes_by_another_metric(tmp_path: Path) -> None:
    run_hydra(tiny.arguments("toy_chat", tmp_path, "epochs=1", "validate_every=1"))
    folder = tmp_path / "run"
    run_hydra([f"resume={folder}", "epochs=2", "monitor.metric=val/bleu"])
    scores = yaml.safe_load((folder / "metrics_fit.json").read_text())
    evaluated = evaluate(Run.find(folder), Run.find(folder).config)
    assert scores["val/bleu"] == pytest.approx(evaluated["bleu"])
    assert yaml.safe_load((folder / "config.yaml").read_text())["callbacks"]["best"]["monitor"] == "${monitor.metric}"


@pytest.mark.parametrize("value", ["${nowhere}", "${data.root}", "${a", "$" + "{oc.env:HOME}"])
def test_a_reference_that_leads_nowhere_is_one_line(value: str, tmp_path: Path) -> None:
    data = {"model": {"x": 1}, "task": {"x": 1}, "data": {"root": value}}
    with pytest.raises(UserError, match=r"config\.yaml: ") as mistake:
        read_config(data, tmp_path / "config.yaml")
    assert "\n" not in str(mistake.value)
