"""Build the documentation site from the pages of the repository and the docstrings.

python scripts/build_docs.py --out build/docs

It needs no network. Every warning is an error: a link that leads nowhere, a docstring that cannot be read.
"""

import argparse
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from attendgen.cli.app import app
from attendgen.cli.script import script
from attendgen.utils.errors import UserError

ROOT = Path(__file__).parents[1]
# what links of the pages name: the site keeps their places in the repository
COPIED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "data/README.md",
    "outputs/README.md",
)
# in the order in which a batch meets them
PACKAGES = (
    "attendgen",
    "attendgen.data",
    "attendgen.text",
    "attendgen.models",
    "attendgen.layers",
    "attendgen.losses",
    "attendgen.decoding",
    "attendgen.metrics",
    "attendgen.tasks",
    "attendgen.optim",
    "attendgen.callbacks",
    "attendgen.inference",
    "attendgen.testing",
)
SECTION = re.compile(r"^\| \*\*(.+?)\*\* \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#:]+\.(?:md|ipynb))\)")


@script
def main() -> None:
    """Build the documentation site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="folder of the site")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        copy_pages(source)
        write_configs(source / "docs" / "reference" / "configs.md")
        write_help(source / "docs" / "reference" / "help.md")
        for package in PACKAGES:
            write_package(package, source / "docs" / "reference" / "api" / f"{package}.rst")
        index = source / "docs" / "index.md"
        index.write_text(add_menu(index.read_text("utf-8"), source), "utf-8")
        command = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(ROOT / "docs"), folder, str(out)]
        if subprocess.run([sys.executable, "-m", "sphinx", *command]).returncode:
            raise UserError("docs: the site was not built, see the warnings above")
    print(f"site: {out / 'docs' / 'index.html'}")


def copy_pages(folder: Path) -> None:
    """Copy the pages and figures."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("conf.py", "__pycache__"))


def write_configs(path: Path) -> None:
    """Write a page of all config files, group by group, as they are."""
    conf = ROOT / "conf"
    parts = ["# Config files", "The files of `conf/`, by group. Comments say what a setting does.", "## train"]
    parts.append(f"```yaml\n{(conf / 'train.yaml').read_text('utf-8').strip()}\n```")
    for folder in sorted(path for path in conf.rglob("*") if path.is_dir()):
        group, files = folder.relative_to(conf).as_posix(), sorted(folder.glob("*.yaml"))
        if files and group != "local":
            parts.append(f"## {group}")
        for file in files:
            parts += [f"### {group}={file.stem}", f"```yaml\n{file.read_text('utf-8').strip()}\n```"]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def write_help(path: Path) -> None:
    """Write a page of what `--help` prints for each command."""
    group: Any = typer.main.get_command(app)
    parts = ["# Help of all commands", "What `attendgen COMMAND --help` prints."]
    for name, command in group.commands.items():
        context = command.make_context(f"attendgen {name}", [], resilient_parsing=True)
        parts += [f"## attendgen {name}", f"```text\n{command.get_help(context).strip()}\n```"]
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def write_package(package: str, path: Path) -> None:
    """Write a page of a package's public names."""
    module = importlib.import_module(package)
    parts = [f"{package}\n{'=' * len(package)}", (module.__doc__ or "").strip().split("\n")[0]]
    for name in module.__all__:
        value: Any = getattr(module, name)
        if name.startswith("__"):
            continue
        kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
        # the names at the top have their places in other packages, whose pages index them
        parts.append(f".. auto{kind}:: {package}.{name}" + ("\n   :no-index:" if package == "attendgen" else ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def add_menu(index: str, folder: Path) -> str:
    """Return the first page with a menu: its own table of pages, section by section, and what is made here."""
    parts = SECTION.split(index)
    sections = {title: LINK.findall(text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}
    made = [path.relative_to(folder / "docs").as_posix() for path in sorted(folder.glob("docs/reference/api/*"))]
    sections["Reference made from code"] = ["reference/help.md", "reference/configs.md", *made]
    sections["Project"] = [f"../{name}" for name in COPIED if name.endswith(".md")]
    menus = (
        "\n".join([f"```{{toctree}}\n:hidden:\n:caption: {title}", *map(strip_suffix, pages), "```"])
        for title, pages in sections.items()
    )
    return index + "\n" + "\n\n".join(menus) + "\n"


def strip_suffix(page: str) -> str:
    """Return a page as a menu names it."""
    return page.rpartition(".")[0]


if __name__ == "__main__":
    main()
