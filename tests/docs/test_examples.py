"""The examples in the documentation run."""

import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hydra.utils import get_object

from attendgen.config.trust import VARIABLE
from attendgen.losses.score_function import Samples
from helpers.errors import Command
from helpers.pages import COMMANDS, PAGES, ROOT, fences


def write_examples(page: Path, folder: Path) -> None:
    """Write the blocks whose first line is a path to that path."""
    for language, text in fences(page):
        first, _, body = text.partition("\n")
        if language in ("python", "yaml") and (match := re.fullmatch(r"# ([\w/]+\.(?:py|yaml))", first)):
            path = folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, from which packages can be imported, with nothing trusted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


QUICK = ("epochs=1", "validate_every=1", "trainer=cpu", "logger=none", "callbacks.samples=null")


def test_the_readmes_own_model_trains_and_answers(attendgen: Command, folder: Path) -> None:
    write_examples(ROOT / "README.md", folder)
    (words,) = (words[1:] for page, words in COMMANDS if page == "README.md" and "--config-dir" in words)
    trained = attendgen("train", *words, *QUICK, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    answered = attendgen("generate", "run", "tu vas bien?")
    assert answered.code == 0, answered.err


def test_the_parts_of_ones_own_train_together(attendgen: Command, folder: Path) -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs" / "extending").glob("*.md"))):
        write_examples(page, folder)
    pair = '{"question": "tu vas bien ?", "answer": "Je vais bien."}\n'
    (folder / "pairs.jsonl").write_text(3 * pair, encoding="utf-8")
    parts = ("model=mine", "model/attention=distance", "data=json_pairs", "task=regularized", "logger=notebook")
    quick = [setting for setting in QUICK if setting != "logger=none"]
    trained = attendgen("train", "--config-dir", "conf", "experiment=toy_chat", *parts, *quick, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    parts = ("model/decoder=gru", "model/attention=distance", *QUICK, "hydra.run.dir=gru")
    trained = attendgen("train", "--config-dir", "conf", "experiment=toy_chat", *parts)
    assert trained.code == 0, trained.err
    assert (folder / "run" / "notebook" / "metrics.csv").is_file()
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text(encoding="utf-8"))
    chosen = [config["model"], config["model"]["attention"], config["data"], config["task"]]
    assert all(part["_target_"].startswith("mypackage.") for part in chosen)

    encoder = get_object("mypackage.encoders.PatchEncoder")()
    assert encoder(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 64, 64)
    estimator = get_object("mypackage.estimators.LearnedBaseline")(sampler=SimpleNamespace(), hidden=3)
    nll, parts, mask = torch.ones(2, 1, 4), torch.zeros(2, 1, 4, 3), torch.ones(2, 4, dtype=torch.bool)
    torch.nn.init.zeros_(estimator.baseline.bias)
    loss = estimator(Samples(nll, -nll, mask, parts, parts, parts, torch.zeros(2, 3)))
    assert loss.tolist() == [4.0 - 10.0 + 30.0] * 2  # nats, score function, squared error


def test_configs_in_the_documentation_are_yaml() -> None:
    for page in PAGES:
        for language, text in fences(page):
            if language == "yaml":
                yaml.safe_load(textwrap.dedent(text))
