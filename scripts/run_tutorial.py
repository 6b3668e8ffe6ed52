"""Run the tutorial from top to bottom, and keep its outputs in the notebook, where the site finds them.

python scripts/run_tutorial.py
"""

import argparse
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from attendgen.cli.script import script
from attendgen.utils.errors import UserError
from attendgen.utils.files import write_text
from attendgen.utils.progress import Progress

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial" / "attention.ipynb"
LONGEST = 600  # seconds that a cell may take


@script
def main() -> None:
    """Run the notebook and write it with its outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TUTORIAL, help="file of the notebook with its outputs")
    out = parser.parse_args().out
    notebook = execute(TUTORIAL)
    write_text(out, nbformat.writes(notebook) + "\n")
    print(f"tutorial: {out}")


def execute(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its cells, run in an empty folder.

    Raises:
        UserError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, Progress("tutorial", "cells", len(notebook.cells)) as shown:
        client = NotebookClient(
            notebook,
            timeout=LONGEST,
            # sockets in the folder: no port is opened
            km=AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(Path(folder) / "kernel")),
            resources={"metadata": {"path": folder}},
            on_cell_complete=lambda **_: shown.add(1),
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise UserError(f"{path}: a cell fails: {error.ename}: {error.evalue}") from error
    for cell in notebook.cells:  # times differ from run to run
        cell.metadata.pop("execution", None)
    return notebook


if __name__ == "__main__":
    main()
