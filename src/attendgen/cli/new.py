"""attendgen new."""

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package's name, such as mypaper.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new or empty folder to write into; default: NAME.")
    ] = None,
) -> None:
    """Write a package of your own: an attention layer, configs, an experiment and tests."""
    from attendgen.utils.new_package import write_package

    folder = out or Path(name)
    write_package(name, folder)
    print(f"{folder}: a package with an attention layer, an experiment and tests; see its README.md")
    print(f"  cd {folder} && pip install --editable .")
    print("  python -m pytest")
    print(f"  attendgen train experiment={name}")
