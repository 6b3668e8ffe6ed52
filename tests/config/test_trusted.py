"""Packages that a user's own trainings have used are trusted from then on; nothing that is opened adds trust."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from attendgen.config.trust import VARIABLE, is_trusted, trust_used
from attendgen.config.trusted import find_places, forget, get_trust_file, is_own_code, read_trusted, remember
from attendgen.hydra_app.app import run_hydra
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import SharedRuns

Train = Callable[..., Path]
OWN = "from attendgen.layers.attention import GeneralAttention\nclass Mine(GeneralAttention):\n    pass\n"
USE = ("model/attention=general", "model.attention._target_=remembered_package.Mine")
QUICK = ("trainer=smoke", "decoding.max_length=4", "callbacks.samples=null")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package of the user's own, which nothing trusts yet."""
    folder = write_package(tmp_path / "mine", monkeypatch)
    monkeypatch.setenv(VARIABLE, "")
    return folder


def write_package(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = place / "remembered_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(OWN)
    monkeypatch.syspath_prepend(place)
    sys.modules.pop(folder.name, None)
    return folder


def test_a_package_of_ones_own_training_is_trusted(
    train: Train, attendgen: Command, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_trusted("remembered_package.Mine")
    folder = train("toy_chat", *USE, *QUICK)
    assert read_trusted() == {"remembered_package": [[str(package)]]}
    assert attendgen("generate", folder, "tu vas bien ?").code == 0
    write_package(tmp_path / "other", monkeypatch)  # which Python now finds first
    assert_mistake(attendgen("generate", folder, "tu vas bien ?"), "remembered_package.Mine", "--trust")


def test_a_name_on_the_command_line_is_the_users_word_also_with_a_saved_run(
    runs: SharedRuns, package: Path, tmp_path: Path
) -> None:
    saved = runs("toy_chat", "model/attention=general", *QUICK[1:])
    run_hydra([f"like={saved}", USE[1], f"hydra.run.dir={tmp_path}/new"])
    assert list(read_trusted()) == ["remembered_package"]


@pytest.mark.parametrize(
    "how",
    ["evaluate", *(pytest.param(how, marks=pytest.mark.slow) for how in ("like", "resume", "init_from", "config"))],
)
def test_a_strangers_run_adds_no_trust(
    train: Train, attendgen: Command, package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """Refused without trust; with --trust it is used, and still not remembered."""
    folder = train("toy_chat", *USE, *QUICK)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "of another user"))
    commands = {
        "evaluate": ["evaluate", folder],
        "resume": ["train", f"resume={folder}", "epochs=3"],
        "like": ["train", f"like={folder}", f"hydra.run.dir={tmp_path}/new"],
        "init_from": ["train", "experiment=toy_chat", f"init_from={folder}", *QUICK, f"hydra.run.dir={tmp_path}/new"],
        "config": ["train", "--config-dir", folder, "--config-name", "config", f"hydra.run.dir={tmp_path}/new"],
    }
    refused = attendgen(*commands[how])
    assert_mistake(refused, "like=" if how == "config" else "remembered_package.Mine")
    attendgen(*commands[how], "--trust", "remembered_package")
    assert not get_trust_file().exists()


def test_a_config_cannot_name_itself_trusted(runs: SharedRuns, package: Path, tmp_path: Path) -> None:
    """A field, an interpolation or a file in the run adds nothing."""
    foreign = shutil.copytree(runs("toy_chat"), tmp_path / "foreign")
    config = yaml.safe_load((foreign / "config.yaml").read_text())
    config["model"]["attention"]["_target_"] = "${name}"
    config["name"] = "remembered_package.Mine"
    (foreign / "config.yaml").write_text(yaml.safe_dump(config))
    (foreign / "trusted.json").write_text(json.dumps({"remembered_package": [[str(package)]]}))
    for argument in (f"resume={foreign}", f"like={foreign}"):
        assert "not one of the classes" in refusal(run_hydra, [argument, f"hydra.run.dir={tmp_path}/new"])
    assert not get_trust_file().exists()


@pytest.mark.parametrize(
    "name", ["torch", "numpy.linalg", "os", "yaml", "lightning", "attendgen.models", "no_such_one"]
)
def test_libraries_are_not_trusted_by_use(name: str) -> None:
    trust_used([f"{name}.load", None, 3])
    assert not get_trust_file().exists()
    assert not is_own_code(name.partition(".")[0]) or name == "attendgen.models"


def test_a_file_that_trusts_a_library_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    get_trust_file().parent.mkdir(parents=True)
    names = ("torch", "os", "attendgen", "numpy")
    get_trust_file().write_text(json.dumps({name: [find_places(name)] for name in names}))
    for name in ("torch.load", "os.system", "attendgen.sweeps.trial.run_process", "numpy.load"):
        assert not is_trusted(name)


def test_a_file_that_others_can_write_is_not_followed(package: Path) -> None:
    remember(["remembered_package"])
    assert get_trust_file().stat().st_mode & 0o777 == 0o600
    assert is_trusted("remembered_package.Mine")
    os.chmod(get_trust_file(), 0o602)
    assert not is_trusted("remembered_package.Mine")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}'])
def test_a_broken_file_is_one_line(package: Path, text: str) -> None:
    get_trust_file().parent.mkdir(parents=True)
    get_trust_file().write_text(text)
    assert str(get_trust_file()) in refusal(is_trusted, "remembered_package.Mine")


def test_processes_that_remember_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"remembered_{number}" for number in range(8)]
    monkeypatch.syspath_prepend(tmp_path)
    for name in names:
        (tmp_path / f"{name}.py").touch()
    threads = [threading.Thread(target=remember, args=([name],)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_trusted() == {name: [[str(tmp_path / f"{name}.py")]] for name in names}


def test_trust_is_listed_given_and_taken_back(package: Path, attendgen: Command) -> None:
    assert attendgen("trust").out == "no package is trusted\n"
    assert str(package) in attendgen("trust", "remembered_package").out
    assert is_trusted("remembered_package.Mine")
    assert attendgen("trust", "--remove", "remembered_package").out == "no package is trusted\n"
    assert not is_trusted("remembered_package.Mine")
    assert_mistake(attendgen("trust", "--remove", "remembered_package"), "not trusted")
    assert_mistake(attendgen("trust", "--remove"), "name the package")
    assert_mistake(attendgen("trust", "no_such_package"), "no such package")
    assert_mistake(attendgen("trust", "remembered_package.part"), "name the whole package")
    for library in ("os", "torch"):
        assert_mistake(attendgen("trust", library), "trust a package of your own")
    assert refusal(forget, "other").startswith("--remove other")
