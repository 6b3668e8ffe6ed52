"""The tutorial holds the outputs of the cells that stand in it, and runs."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial" / "attention.ipynb"


def read_cells(path: Path = NOTEBOOK) -> list[dict[str, Any]]:
    return json.loads(path.read_text("utf-8"))["cells"]


def code_of(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read_cells(path) if cell["cell_type"] == "code"]


def kinds_of(cell: dict[str, Any]) -> set[str]:
    """What a cell puts out; what it prints may come in several parts."""
    return {output["output_type"] for output in cell["outputs"]}


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_the_cells_were_run_in_order_without_an_error() -> None:
    cells = code_of(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert not [output for cell in cells for output in cell["outputs"] if output.get("name") == "stderr"]


def test_no_output_names_a_folder_of_the_machine() -> None:
    text = "".join(map(printed, code_of(NOTEBOOK)))
    assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|var)/", text)


def test_links_lead_somewhere() -> None:
    prose = "".join("".join(cell["source"]) for cell in read_cells() if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\(([^)\s#:]+)(?:#[\w-]+)?\)", prose)
    assert targets
    for target in targets:
        assert (NOTEBOOK.parent / target).exists(), target


@pytest.mark.slow
def test_it_runs_and_prints_what_it_holds(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    import subprocess
    import sys

    out = tmp_path / "run.ipynb"
    command = [sys.executable, str(ROOT / "scripts" / "run_tutorial.py"), "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    first, again = code_of(NOTEBOOK), code_of(out)
    assert [cell["source"] for cell in first] == [cell["source"] for cell in again]
    for old, new in zip(first, again, strict=True):
        assert kinds_of(old) == kinds_of(new)
    # what no training decides is the same to the letter
    assert printed(first[1]) == printed(again[1])
