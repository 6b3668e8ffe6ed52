"""Imports go one way, as docs/design.md and the README say."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

EVERYONE = {"errors", "files"}
# what is not here may use anything but the command line
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "records": set(),
    "transliteration": set(),
    "vocabulary": {"transliteration"},
    "layers": set(),
    "losses": set(),
    "metrics": set(),
    "decoding": set(),
    "plotting": set(),
    "word_vectors": {"vocabulary"},
    "data": {"vocabulary"},
    "models": {"layers"},
    # data.batch: the tuples that travel from a loader to a task
    "tasks": {"models", "losses", "decoding", "metrics", "vocabulary", "data.batch", "word_vectors"},
    "callbacks": {"plotting", "decoding", "vocabulary", "data", "checkpointing", "records"},
}
# the ids of <pad>, <sos> and <eos> are a convention that all share
SPECIALS = {"vocabulary.PAD", "vocabulary.SOS", "vocabulary.EOS"}


def imported(source: str, module: str, package: bool = False) -> Iterator[str]:
    """Dotted names inside attendgen that a module's source imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                parents = module.split(".")
                base = parents[: len(parents) - node.level + package] + base
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("attendgen.") for name in names if name.startswith("attendgen."))


def forbidden(source: str, module: str, package: bool = False) -> list[str]:
    """What a module imports against the rule."""
    unit = module.split(".")[1] if "." in module else ""
    allowed = MAY_IMPORT.get(unit)
    found = []
    for name in imported(source, module, package):
        parts = name.split(".")
        prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
        if parts[0] == "cli":
            if unit != "cli":
                found.append(name)
        elif allowed is not None and parts[0] != unit and not prefixes & (allowed | EVERYONE | SPECIALS):
            found.append(name)
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path):
    assert forbidden(path.read_text(encoding="utf-8"), name_of(path), path.name == "__init__.py") == []


def test_every_unit_of_the_rule_exists():
    units = {name_of(path).split(".")[1] for path in MODULES if "." in name_of(path)}
    assert set(MAY_IMPORT) <= units


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("attendgen.data.features", "from attendgen.models.encoders import GridEncoder"),
        ("attendgen.data.features", "def f():\n    import attendgen.models.encoders"),
        ("attendgen.data.features", "from ..models import encoders"),
        ("attendgen.data.features", "from attendgen import tasks"),
        ("attendgen.models.lm", "from attendgen.vocabulary import PAD, Vocabulary"),
        ("attendgen.layers.attention", "from attendgen.models.lm import ContextLM"),
        ("attendgen.losses.cross_entropy", "from attendgen.metrics.bleu import bleu"),
        ("attendgen.tasks.lm", "from attendgen.data.features import FeatureCache"),
        ("attendgen.files", "import attendgen.vocabulary"),
        ("attendgen.runs", "from attendgen import cli"),
        ("attendgen", "from attendgen.cli import main"),
    ],
)
def test_the_rule_catches(module, source):
    assert len(forbidden(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("attendgen.data.features", "from attendgen.vocabulary import Vocabulary\nfrom . import images\nimport torch"),
        ("attendgen.decoding.beam", "from attendgen.vocabulary import EOS, PAD, SOS\nfrom attendgen import errors"),
        ("attendgen.tasks.lm", "from attendgen.data.batch import PairBatch\nfrom attendgen.files import read_text"),
        ("attendgen.cli", "from attendgen.runs import load\nfrom attendgen.tasks.lm import LMTask"),
    ],
)
def test_the_rule_allows(module, source):
    assert list(imported(source, module))
    assert forbidden(source, module) == []
