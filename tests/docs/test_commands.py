"""Commands in the documentation compose and parse."""

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from attendgen.cli.app import app
from attendgen.config.resolvers import register_resolvers
from attendgen.config.trust import VARIABLE
from attendgen.utils.resources import get_conf_dir
from helpers.pages import COMMANDS, ROOT, read

TRAININGS = sorted({words[1:] for _, words in COMMANDS if words[:1] == ("train",)})
OTHERS = sorted({words for _, words in COMMANDS if words[:1] != ("train",)})


def test_the_documentation_has_commands() -> None:
    assert len(TRAININGS) > 20
    assert {words[0] for words in OTHERS} >= {"evaluate", "generate", "caption", "ensemble", "merge", "rescale", "runs"}


def overrides_of(words: tuple[str, ...]) -> list[str]:
    """The overrides among the arguments of `attendgen train`, without launchers, which are plugins."""
    rest = iter(words)
    overrides = []
    for word in rest:
        if word in ("--trust", "--cfg", "--config-dir"):
            next(rest)
        elif word != "-m" and not re.match(r"\+?hydra[/.]launcher", word):
            overrides.append(word)
    return overrides


def first_value(override: Override) -> str:
    """An override with its first value, if it is a sweep."""
    value = override.value()
    if isinstance(value, Glob):
        group = get_conf_dir() / override.key_or_group
        names = value.filter([path.stem for path in sorted(group.glob("*.yaml"))])
        assert names, f"{override.input_line}: nothing of that name"
        return f"{override.key_or_group}={names[0]}"
    if isinstance(value, IntervalSweep | RangeSweep):
        return f"{override.key_or_group}={value.start}"
    if isinstance(value, ChoiceSweep):
        return f"{override.key_or_group}={next(iter(override.sweep_string_iterator()))}"
    return str(override.input_line)


def walk(node: object, prefix: str = "") -> Iterator[str]:
    """Every dotted key below a node."""
    yield prefix
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from walk(value, f"{prefix}.{key}" if prefix else str(key))


@functools.cache
def keys_of(choices: tuple[str, ...]) -> set[str]:
    """The keys of a composed config."""
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        config: DictConfig = compose("train", list(choices))
    return set(walk(OmegaConf.to_container(config, resolve=False)))


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_in_the_documentation_composes(words: tuple[str, ...]) -> None:
    if {"--config-dir", "--help", "experiment=mypaper"} & set(words):
        return  # examples with configs of one's own are trained by test_examples.py and tests/cli/test_new.py
    parsed = OverridesParser.create().parse_overrides(overrides_of(words))
    is_search = any(override.key_or_group == "sweep" for override in parsed)
    if is_search and "OptunaSweeper" not in {plugin.__name__ for plugin in Plugins.instance().discover()}:
        pytest.skip("Optuna is not installed")
    overrides = {override.key_or_group: first_value(override) for override in parsed}
    if "resume" in overrides or "like" in overrides:
        overrides = {"experiment": "experiment=multi30k_fr_en_words", **overrides}  # stands for the run's config
    # composing is slow: once for all commands with the same choices of groups
    choices = {key: text for key, text in overrides.items() if is_search or (get_conf_dir() / key).is_dir()}
    keys = keys_of(tuple(sorted(choices.values())))
    of_trainer = {f"trainer.{name}" for name in inspect.signature(Trainer).parameters}
    added = {override.key_or_group for override in parsed if override.is_add()} & of_trainer
    for key in overrides.keys() - choices.keys():
        assert key in keys | added or key.startswith("hydra."), f"{key}: no such key"  # those of Hydra are not composed


@pytest.fixture(scope="module")
def known_keys() -> set[str]:
    """Every dotted key of some experiments of all families."""
    found = {"attention"}  # no setting, but the boxes of words that `evaluate` compares with
    for name in ("toy_chat", "novels_lstm", "flickr8k_hard", "flickr8k_scst"):
        found |= keys_of((f"experiment={name}",))
    return found


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_a_command_in_the_documentation_is_understood(
    words: tuple[str, ...], known_keys: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")  # which --trust changes
    group: Any = typer.main.get_command(app)
    name, *arguments = words
    if "--help" in words or name == "COMMAND":
        return
    assert name in group.commands, f"no command {name}"
    command = group.commands[name]
    context = command.make_context(name, list(arguments))
    changes = context.params.get("arguments") or []
    for change in changes:
        assert "=" in change or name == "evaluate", f"{change}: expected KEY=VALUE"
        key = change.partition("=")[0]
        assert key in known_keys or "=" not in change, f"{key}: no experiment has such a key"
        assert not any(known.startswith(f"{key}.") for known in known_keys), f"{key}: a group, not one setting"


@pytest.mark.parametrize(
    "name",
    ["evaluate", "compare", "generate", "caption", "import", "ensemble", "merge", "rescale", "runs", "new", "trust"],
)
def test_the_reference_lists_the_options_of_a_command(name: str) -> None:
    text = read(ROOT / "docs" / "reference" / "cli.md")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (own,) = (part for part in section if part.split("\n")[0] == name)
    listed = set(re.findall(r"(?<![\w-])--[\w-]+", own))
    if "decoding.md" in own:
        listed |= set(re.findall(r"--[\w-]+", read(ROOT / "docs" / "guide" / "decoding.md")))
    group: Any = typer.main.get_command(app)
    command = group.commands[name]
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    options.discard("--help")
    assert options <= listed, f"docs/reference/cli.md lacks {options - listed}"
    written = set(re.findall(r"^\| `(--[\w-]+)`", own, re.MULTILINE))
    assert written - {"--beam"} <= options, f"docs/reference/cli.md has {written - options}"
