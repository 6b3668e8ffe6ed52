"""The wheel holds what an installed command needs, and the package can be run as a module."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_configs_toy_pairs_models_and_modules(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"attendgen/resources/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert configs <= names
    assert "attendgen/resources/toy_chat.tsv" in names
    models = {f"attendgen/resources/{path.relative_to(ROOT / 'data')}" for path in (ROOT / "data/models").glob("*/*")}
    assert models
    assert models <= names
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= names


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attendgen"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    for name in ("train", "evaluate", "generate", "caption", "import", "ensemble", "merge", "rescale", "runs"):
        assert name in done.stdout
    done = subprocess.run([*command, "runs", "nowhere"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("attendgen: ")
