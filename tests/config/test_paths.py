"""Files and folders that a class of the user's own takes stay where they were when training started."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from attendgen.config.overrides import override_config
from attendgen.config.paths import get_path_fields, make_declared_paths_absolute
from attendgen.config.trust import VARIABLE

CODE = """
from __future__ import annotations
from pathlib import Path

class Reader:
    path_fields = ("index",)

    def __init__(self, file: Path | None, index: str, name: str, inner=None): ...
"""


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_paths.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "own_paths")
    monkeypatch.chdir(tmp_path)


READER = {"_target_": "own_paths.Reader", "file": "a.txt", "index": "b/c.txt", "name": "a.txt"}


def test_declared_and_annotated_fields_are_absolute_at_any_depth(tmp_path: Path) -> None:
    inner = {**READER, "file": "/far/a.txt", "index": None}
    config = OmegaConf.create({"x": "d.txt", "data": {**READER, "index": "${x}", "inner": [inner, {"k": READER}]}})
    make_declared_paths_absolute(config.data)
    assert (config.data.file, config.data.name) == (f"{tmp_path}/a.txt", "a.txt")
    assert OmegaConf.is_interpolation(config.data, "index")
    first, second = config.data.inner
    assert (first.file, first.index) == ("/far/a.txt", None)
    assert (second.k.file, second.k.index, second.k.name) == (f"{tmp_path}/a.txt", f"{tmp_path}/b/c.txt", "a.txt")


def test_a_change_is_relative_to_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = override_config(OmegaConf.create({"data": {"inner": READER}}), ["data.inner.file=n.txt"])
    assert config.data.inner.file == f"{tmp_path}/elsewhere/n.txt"
    assert config.data.inner.index == "b/c.txt"


def test_what_does_not_exist_has_no_paths() -> None:
    assert get_path_fields("own_paths.Nothing") == get_path_fields(None) == set()
    assert get_path_fields("attendgen.text.PretrainedEmbeddings") == {"file"}
