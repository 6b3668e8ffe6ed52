"""The wheel holds what an installed command needs, and the package can be run as a module."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers import tiny_data

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_configs_toy_pairs_models_and_modules(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"attendgen/resources/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert configs <= names
    assert "attendgen/resources/toy_chat.tsv" in names
    models = {f"attendgen/resources/{path.relative_to(ROOT / 'data')}" for path in (ROOT / "data/models").glob("*/*")}
    assert models
    assert models <= names
    templates = {f"attendgen/resources/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*.*")}
    assert {name for name in templates if not name.endswith(".pyc")} <= names
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= names


@pytest.mark.slow
def test_the_wheel_trains_generates_and_captions_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    tiny_data.image(tmp_path / "photo.png", "red")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "attendgen", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, text=True, check=True, stdout=subprocess.PIPE
        ).stdout

    where = "import attendgen; print(attendgen.__file__)"
    found = subprocess.check_output([sys.executable, "-c", where], cwd=tmp_path, env=environment, text=True)
    assert Path(found.strip()).is_relative_to(tmp_path / "site")
    assert run("generate", "toy-chat", "tu vas bien?").strip()
    run("train", "experiment=toy_chat", "epochs=1", "validate_every=1", "hydra.run.dir=run")
    assert json.loads((tmp_path / "run" / "metrics_fit.json").read_text())
    run("generate", "run", "tu vas bien?")
    assert run("caption", "flickr8k-soft", "photo.png", "--mbr-samples", "0", "--out", ".").strip()
    assert (tmp_path / "photo_attention.png").exists()


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attendgen"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    for name in ("train", "evaluate", "generate", "caption", "import", "ensemble", "merge", "rescale", "runs"):
        assert name in done.stdout
    done = subprocess.run([*command, "runs", "nowhere"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("attendgen: ")
