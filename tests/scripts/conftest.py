"""Scripts are files, not modules of the package: tests load them by their path."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Load a script: `load_script("benchmarks/lm")` is its module."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend((SCRIPTS / name).parent)  # as Python does for a script that it runs
        spec = importlib.util.spec_from_file_location(f"script_{Path(name).name}", SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
