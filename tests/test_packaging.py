"""The wheel holds what an installed command needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_configs_and_toy_pairs_travel_in_the_wheel(tmp_path: Path) -> None:
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
