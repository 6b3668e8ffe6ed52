"""A change of a saved run's field reaches every field that refers to it."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from attendgen.config.resolvers import register_resolvers
from attendgen.config.saved import read_config, record_config
from attendgen.runs.run import Run
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.resources import conf_dir

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
CHOICES = {path.stem: [f"experiment={path.stem}"] for path in sorted((conf_dir() / "experiment").glob("*.yaml"))}
CHOICES |= {name: ["experiment=flickr8k_soft", f"data={name}", "data.root=x"] for name in ("coco", "karpathy")}


def composed(choices: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", choices)
    config.name, config.paths.run = "name", "/runs/1"
    return config


def saved(config: DictConfig, tmp_path: Path) -> Run:
    """A run with this config, written down and read again."""
    text = yaml.safe_dump(record_config(config))
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
            after = run.override([f"{changed}={new}"])
            new = OmegaConf.select(after, changed)  # a path is made absolute
            wanted = text.replace(f"${{{referred}}}", str(new)) if not inner else new
            assert str(OmegaConf.select(after, f"{field}.{inner}".rstrip("."))) == str(wanted), (field, changed)


def test_the_callbacks_follow_the_monitored_metric_and_the_data_its_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    after = saved(composed(["experiment=novels"]), tmp_path).override(["monitor.metric=val/x", "paths.cache=big"])
    assert after.callbacks.best.monitor == after.callbacks.early_stopping.monitor == "val/x"
    assert after.data.cache == str(tmp_path / "big")
