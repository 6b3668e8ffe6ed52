"""A run records the code that it uses, and a command that starts it again."""

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from attendgen.hydra_app.app import run_hydra
from attendgen.runs.provenance import describe_environment, describe_own_packages
from helpers.checkpoints import assert_same, read

OWN = "from attendgen.layers.attention import GeneralAttention\nclass Mine(GeneralAttention):\n    pass\n"
CONFIG = {
    "model": {"attention": {"_target_": "recorded_package.Mine"}, "_target_": "attendgen.models.Seq2Seq"},
    "task": {"optimizer": {"_target_": "torch.optim.Adam"}},
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository" / "recorded_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_a_source_that_is_not_installed_records_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", require)
    found = describe_environment(tmp_path, {})["packages"]
    assert {"omegaconf", "torch", "lightning", "numpy"} <= found.keys()


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_package_outside_a_repository_has_no_commit(package: Path) -> None:
    found = {"version": None, "folder": str(package), "commit": None, "changed": None}
    assert describe_own_packages(CONFIG) == {"recorded_package": found}


def test_commit_and_changes_of_a_package_are_those_of_its_folder(package: Path) -> None:
    git(package.parent, "init", "--quiet")
    assert describe_own_packages(CONFIG)["recorded_package"]["commit"] is None, "git does not track it"
    git(package.parent, "add", "recorded_package")
    git(package.parent, "commit", "--quiet", "--message", "first")
    head = git(package.parent, "rev-parse", "HEAD")

    def is_changed() -> bool:
        found = describe_own_packages(CONFIG)["recorded_package"]
        assert found["commit"] == head
        return found["changed"]

    assert not is_changed()
    (package.parent / "notes.py").touch()
    (package / "result.txt").touch()
    assert not is_changed(), "neither is code of the package"
    (package / "new.py").touch()
    assert is_changed()
    (package / "new.py").unlink()
    (package / "__init__.py").write_text(OWN + "#\n")
    assert is_changed()


def test_the_recorded_command_starts_the_run_again(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, group, text in (
        ("here", "model/attention", "_target_: recorded_package.Mine\n_partial_: true\n"),
        ("there", "callbacks", "defaults: [default, _self_]\nsamples: null\nprogress: null\n"),
    ):
        (tmp_path / name / group).mkdir(parents=True)
        (tmp_path / name / group / "own.yaml").write_text(text)
    monkeypatch.setenv("PYTHONPATH", "some/where")
    monkeypatch.chdir(tmp_path)
    options = ["--config-dir", "here", f"hydra.searchpath=[file://{tmp_path}/there]"]
    settings = ["experiment=toy_chat", "model/attention=own", "callbacks=own", "trainer=smoke", "seed=4"]
    run_hydra([*options, *settings, "decoding.max_length=4", "hydra.run.dir=first"])
    record = json.loads((tmp_path / "first" / "environment.json").read_text())
    assert (record["directory"], record["pythonpath"].split(os.pathsep)[-1]) == (str(tmp_path), "some/where")
    assert list(record["own_packages"]) == ["recorded_package"]
    assert record["command"][:2] == ["attendgen", "train"]
    run_hydra(record["command"][2:])
    (second,) = (tmp_path / "outputs" / "toy_chat").iterdir()
    assert_same(read(tmp_path / "first")["state_dict"], read(second)["state_dict"])
    assert json.loads((second / "environment.json").read_text())["command"] == record["command"]


def test_the_command_of_a_trial_starts_the_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "decoding").mkdir(parents=True)
    (tmp_path / "own" / "decoding" / "short.yaml").write_text("defaults: [greedy, _self_]\nmax_length: 4\n")
    sweep = ["-m", "--config-dir", "own", "experiment=toy_chat", "decoding=short", "trainer=smoke", "seed=5"]
    folder = run_hydra([*sweep, "isolate=false", "callbacks.samples=null", "hydra.sweep.dir=sweep"])
    assert folder is not None
    record = json.loads((folder / "0" / "environment.json").read_text())
    run_hydra(record["command"][2:])
    (second,) = (tmp_path / "outputs" / "toy_chat").iterdir()
    assert_same(read(folder / "0")["state_dict"], read(second)["state_dict"])
