"""A package of one's own, written from the template."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object

from attendgen.utils.new_package import require_new_name
from attendgen.utils.resources import get_template
from helpers.errors import Command, assert_mistake, refusal

SOURCE = Path(__file__).parents[2] / "src"


def test_the_package_has_its_name_everywhere(
    tmp_path: Path, attendgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work" / "bench"
    done = attendgen("new", "other_lab", "--out", folder)
    assert done.code == 0, done.err
    assert f"cd {folder}" in done.out
    files = {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}
    template = [
        path for path in get_template("package").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(files) == len(template)
    for path, text in files.items():
        assert "mypaper" not in f"{path}{text}".lower(), path
        if path.suffix == ".py":
            compile(text, str(path), "exec")
    monkeypatch.syspath_prepend(folder / "src")
    config = yaml.safe_load(files[Path("src/other_lab/conf/model/attention/other_lab_distance.yaml")])
    assert get_object(config["_target_"]).__module__ == "other_lab.attention"
    assert "class OtherLabSearchPath" in files[Path("src/hydra_plugins/other_lab_search_path.py")]
    assert {path.name for path in folder.parent.iterdir()} == {"bench"}


@pytest.mark.parametrize(
    "name", ["My", "my-lab", "1st", "class", "", "a b", "_x", "a/b", "os", "torch", "tests", "conf"]
)
def test_a_name_that_python_would_misunderstand_is_refused(name: str) -> None:
    assert refusal(require_new_name, name).startswith(f"new {name}: ")


def test_nothing_is_overwritten(tmp_path: Path, attendgen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lab").mkdir()
    assert attendgen("new", "my_lab").code == 0, "the folder is empty"
    before = sorted(tmp_path.rglob("*"))
    assert_mistake(attendgen("new", "my_lab"), "not empty")
    (tmp_path / "file").touch()
    assert_mistake(attendgen("new", "my_lab", "--out", "file"), "not empty")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def run(folder: Path, *command: str, path: str = "") -> str:
    """Run a command in a process of its own, which finds AttendGen and what is on the path."""
    variables = {**os.environ, "PYTHONPATH": f"{SOURCE}:{path}"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_packages_own_tests_pass(tmp_path: Path, attendgen: Command) -> None:
    """One of them trains the experiment."""
    assert attendgen("new", "my_lab", "--out", tmp_path / "bench").code == 0
    assert "3 passed" in run(tmp_path / "bench", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_the_experiment_is_found_trained_evaluated_and_used_without_flags(tmp_path: Path, attendgen: Command) -> None:
    assert attendgen("new", "my_lab", "--out", tmp_path / "bench").code == 0
    own = str(tmp_path / "bench" / "src")
    run(tmp_path, "attendgen", "train", "experiment=my_lab", "trainer=smoke", "hydra.run.dir=run", path=own)
    assert "exact_match" in run(tmp_path, "attendgen", "evaluate", "run", path=own)
    run(tmp_path, "attendgen", "generate", "run", "tu vas bien?", path=own)
    run(tmp_path, "attendgen", "train", "resume=run", "steps=3", "epochs=3", path=own)
    assert "my_lab" in run(tmp_path, "attendgen", "trust", path=own)
