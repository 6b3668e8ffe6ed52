"""Every block of Python in the documentation runs."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attendgen.config.trust import VARIABLE
from helpers.pages import PAGES, fences, name_of
from helpers.runs import SharedRuns

FILE = re.compile(r"# ([\w/]+\.py)\n")  # a block that begins so is a file of the reader's own package


def blocks(page: Path, files: bool) -> Iterator[tuple[str, str]]:
    """The name and the text of each block of a page: those that are files, or those that are pasted into Python."""
    for number, (language, text) in enumerate(fences(page)):
        name = FILE.match(text)
        if language == "python" and bool(name) == files:
            yield (name[1] if name else f"{name_of(page)}:{number}", text)


PASTED = [(name, text) for page in PAGES for name, text in blocks(page, files=False)]
WRITTEN = [page for page in PAGES if any(blocks(page, files=True))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, from which packages can be imported, with nothing trusted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path


@pytest.mark.parametrize(("name", "text"), PASTED, ids=[name for name, _ in PASTED])
def test_a_block_runs(name: str, text: str, folder: Path, runs: SharedRuns) -> None:
    """RUN stands for a run directory of the toy chat."""
    if '"RUN' in text:
        text = re.sub(r'"RUN\w*"', repr(str(runs("toy_chat"))), text)
    exec(compile(text, name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", WRITTEN, ids=map(name_of, WRITTEN))
def test_a_page_s_files_can_be_imported(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = set()
    for path, text in blocks(page, files=True):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        packages.add(path.split("/")[0])
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for path, text in blocks(page, files=True):
        exec(compile(text, path, "exec"), {"__name__": path.removesuffix(".py").replace("/", ".")})
