"""Changes of a saved run's config: a changed field reaches every field that refers to it."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from attendgen.config.overrides import expand_profiler, make_paths_absolute, override_config
from attendgen.config.resolvers import register_resolvers
from attendgen.config.saved import read_config, record_config
from attendgen.runs.run import Run
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.resources import bundled_models, get_conf_dir
from helpers.errors import refusal

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
CHOICES = {path.stem: [f"experiment={path.stem}"] for path in sorted((get_conf_dir() / "experiment").glob("*.yaml"))}
CHOICES |= {name: ["experiment=flickr8k_soft", f"data={name}", "data.root=x"] for name in ("coco", "karpathy")}
CHOICES["no experiment"] = []


def composed(choices: list[str]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        config = compose("train", choices)
    config.name, config.paths.run = "name", "/runs/1"
    return config


def saved(config: DictConfig, tmp_path: Path) -> Run:
    """A run with this config, written down and read again."""
    text = yaml.safe_dump(record_config(config))
    config = read_config(yaml.safe_load(text), tmp_path)
    return Run(tmp_path, tmp_path / "best.ckpt", config, Vocabulary(["a"], "words"))


@pytest.fixture
def toy_chat(tmp_path: Path) -> Run:
    """A run of toy_chat that was saved."""
    return saved(composed(["experiment=toy_chat"]), tmp_path)


def references(node: object, field: str = "") -> list[tuple[str, str]]:
    """Every field whose value holds a reference, with that value."""
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in references(value, f"{field}.{key}".lstrip("."))]
    return [(field, node)] if isinstance(node, str) and "${" in node else []


def other(value: object) -> object:
    """Another value of the same kind."""
    return value + 7 if isinstance(value, int) else {"max": "min", "min": "max"}.get(str(value), f"{value}_other")


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_every_reference_of_the_configs_is_followed(choices: list[str], tmp_path: Path) -> None:
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


ROOTS = {"flickr8k_soft": "flickr8k", "coco_soft": "coco", "novels": "novels", "multi30k_fr_en": "multi30k"}


@pytest.mark.parametrize("experiment", ROOTS)
def test_the_data_follow_the_folder_of_all_data(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = saved(composed([f"experiment={experiment}"]), tmp_path)
    assert run.override(["paths.data=big"]).data.root == str(tmp_path / "big" / ROOTS[experiment])
    assert run.override(["paths.data=big", "data.root=mine"]).data.root == str(tmp_path / "mine")


def test_the_callbacks_follow_the_monitored_metric_and_the_data_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    after = saved(composed(["experiment=novels"]), tmp_path).override(["monitor.metric=val/x", "paths.cache=big"])
    assert after.callbacks.best.monitor == after.callbacks.early_stopping.monitor == "val/x"
    assert after.data.cache == str(tmp_path / "big")


def test_a_change_of_a_field_that_refers_changes_no_other(toy_chat: Run) -> None:
    after = toy_chat.override(["task.decoding.beam_size=7", "data.seed=5"])
    assert (after.task.decoding.beam_size, after.decoding.beam_size) == (7, 1)
    assert (after.data.seed, after.seed) == (5, 1)
    assert after.task.decoding.max_length == toy_chat.config.decoding.max_length
    for changes in (
        ["task.decoding.beam_size=7", "decoding.max_length=3"],
        ["decoding.max_length=3", "task.decoding={beam_size: 7}"],
    ):
        decoding = toy_chat.override(changes).task.decoding
        expected = (7, 3, toy_chat.config.decoding._target_)
        assert (decoding.beam_size, decoding.max_length, decoding._target_) == expected


def test_hydras_and_the_machines_values_are_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    config = composed(["experiment=toy_chat"])
    OmegaConf.set_struct(config, False)
    config.data.root = "${oc.env:SOMEWHERE}/pairs"
    config.data.more = ["${seed}", "${oc.env:SOMEWHERE}"]
    data = record_config(config)
    assert data["data"]["root"] == "/data/pairs"
    assert data["data"]["more"] == ["${seed}", "/data"]
    assert data["data"]["train"].endswith("toy_chat.tsv")


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_models_task_follows_its_decoding(name: str) -> None:
    assert Run.find(name).override(["decoding.max_length=3"]).task.decoding.max_length == 3


def test_a_run_keeps_its_own_config(toy_chat: Run) -> None:
    before = OmegaConf.to_container(toy_chat.config)
    after = toy_chat.override(["model.hidden=3", "seed=9"])
    assert (after.model.hidden, after.seed) == (3, 9)
    assert OmegaConf.to_container(toy_chat.config) == before
    assert toy_chat.override([]) == toy_chat.config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "seed: expected key=value"),
        ("hiden=3", "hiden: no such field in the run's config"),
        ("model.hiden=3", "model.hiden: no such field in the run's config; did you mean model.hidden?"),
        ("nothing.hidden=3", "nothing.hidden: no such field in the run's config"),
        ("decoding=beam", "decoding is a group of fields; change one of them, as decoding.NAME=VALUE"),
        ("callbacks.samples=null", "callbacks.samples is a group of fields"),
        ("seed={a", "seed={a: not a value"),
        ("=5", "=5: expected key=value"),
        ("data.root=${nope}", "data.root=${nope}: Interpolation key 'nope' not found"),
        ("data.train=[3]", "data.train=[3]: expected a file, or a list of files"),
    ],
)
def test_a_wrong_change_is_one_line(toy_chat: Run, override: str, message: str) -> None:
    assert message in refusal(toy_chat.override, [override])


def test_a_target_that_does_not_exist_has_no_parameters(toy_chat: Run) -> None:
    told = refusal(toy_chat.override, ["task._target_=nowhere.Task", "task.new=1"])
    assert told.startswith("task.new: no such field in the run's config")


def test_values_are_read_as_yaml(toy_chat: Run) -> None:
    after = toy_chat.override(["data.columns=[2,4]", "data.val=null", "task.optimizer.lr=1e-3", "model.tied=true"])
    assert list(after.data.columns) == [2, 4]
    assert (after.data.val, after.task.optimizer.lr, after.model.tied) == (None, 1e-3, True)
    assert toy_chat.override(["decoding={beam_size: 4}"]).decoding.beam_size == 4


def test_a_parameter_that_is_newer_than_the_run_can_be_set(toy_chat: Run) -> None:
    OmegaConf.set_struct(toy_chat.config, False)
    del toy_chat.config.model.tied
    del toy_chat.config.decoding.coverage_penalty
    after = toy_chat.override(["model.tied=true", "decoding.coverage_penalty=0.5"])
    assert (after.model.tied, after.decoding.coverage_penalty) == (True, 0.5)
    assert after.task.decoding.coverage_penalty == 0.5


def test_files_are_relative_to_the_working_directory(
    toy_chat: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    after = toy_chat.override(["data.train=[a.fr,b.en]", "data.val=c.tsv"])
    assert list(after.data.train) == [f"{tmp_path}/a.fr", f"{tmp_path}/b.en"]
    assert after.data.val == f"{tmp_path}/c.tsv"
    after = toy_chat.override(["data.root=pairs", "data.train=a.tsv"])
    assert (after.data.root, after.data.train) == (f"{tmp_path}/pairs", "a.tsv"), "a file is relative to a given root"


def test_a_new_runs_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    config = composed(["experiment=novels", "paths.data=big", "init_from=old"])
    make_paths_absolute(config)
    assert (config.paths.data, config.paths.cache) == (f"{tmp_path}/big", f"{tmp_path}/data/cache")
    assert config.data.root == f"{tmp_path}/big/novels"
    assert config.init_from == f"{tmp_path}/old"
    (tmp_path / "toy-chat").mkdir()  # not a run: it does not hide the bundled model
    config = composed(["experiment=novels", "data.root=mine", "init_from=toy-chat"])
    make_paths_absolute(config)
    assert (config.data.root, config.init_from) == (f"{tmp_path}/mine", "toy-chat")


def test_a_profiler_by_name_writes_into_the_run_directory() -> None:
    config = composed(["experiment=toy_chat", "trainer.profiler=simple"])
    OmegaConf.set_struct(config, False)
    expand_profiler(config)
    assert config.trainer.profiler._target_ == "lightning.pytorch.profilers.SimpleProfiler"
    assert config.trainer.profiler.dirpath == "/runs/1/profiler"
    config.trainer.profiler = "fast"
    assert "choose one of simple, advanced, pytorch" in refusal(expand_profiler, config)


def test_changes_of_a_plain_config_follow_each_other() -> None:
    config = OmegaConf.create({"a": {"x": 1}, "b": "${a}", "c": "${b.x}"})
    after = override_config(config, ["a.x=2", "b.x=5"])
    assert (after.a.x, after.b.x, after.c) == (2, 5, 5)


def test_home_folder_in_a_config_file_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = {"data": "~/data", "cache": "cache", "outputs": "~", "run": "run"}
    data = {"root": "~/texts", "train": ["~/a.txt", "b.txt"], "val": "${paths.data}/val", "test": None}
    config = OmegaConf.create({"paths": paths, "data": data, "model": {}, "task": {}, "init_from": None})
    make_paths_absolute(config)
    assert config.data.root == str(tmp_path / "texts")
    assert list(config.data.train) == [str(tmp_path / "a.txt"), "b.txt"]
    assert config.data.val == str(tmp_path / "data" / "val")
    assert config.paths.outputs == str(tmp_path)


def test_a_setting_that_is_newer_than_the_run_reaches_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """Bundled models were saved before `metrics.tokenize`, which only the task of sentence pairs takes."""
    changed = Run.find("multi30k-fr-en", trained=False).override(["metrics.tokenize=zh"])
    assert changed.task.tokenize == "zh"
    assert not caplog.records, "Hydra logs a class that it does not find"
    refused = refusal(Run.find("novels", trained=False).override, ["metrics.tokenize=zh"])
    assert "metrics.tokenize: no such field" in refused
