"""A package of the user's own that extends AttendGen, written from a template."""

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import read_text, temporary_folder
from attendgen.utils.resources import get_template

TEMPLATE_NAME = "mypaper"  # of the package in the template
HIDDEN = {"gitignore": ".gitignore"}


def write_package(name: str, folder: Path) -> None:
    """Write a package with configs, an attention layer, an experiment and tests.

    Args:
        name: of the package.
        folder: that the package is written into; it is new or empty.

    Raises:
        UserError: the name is not one of a new package, or the folder has files.
    """
    require_new_name(name)
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UserError(f"{folder}: not empty; give --out a new or empty folder")
    template = get_template("package")
    with temporary_folder(folder.absolute().parent) as temporary:
        for source in sorted(template.rglob("*")):
            if source.is_file() and "__pycache__" not in source.parts:
                place = str(source.relative_to(template)).replace(TEMPLATE_NAME, name)
                target = temporary / "package" / HIDDEN.get(place, place)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_rename(read_text(source), name), encoding="utf-8")
        try:
            (temporary / "package").replace(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {describe_refusal(error)}") from error


def _rename(text: str, name: str) -> str:
    """Replace the template's name, also within the name of a class."""
    classes = "".join(part.capitalize() for part in name.split("_"))
    return text.replace(TEMPLATE_NAME, name).replace(TEMPLATE_NAME.capitalize(), classes)


def require_new_name(name: str) -> None:
    """Check that a package may have this name.

    Raises:
        UserError: Python or AttendGen would misunderstand it, or there is such a package.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UserError(f"new {name}: expected the name of a Python package: small letters, digits and underscores")
    taken = {"conf", "hydra_plugins", "tests", *sys.stdlib_module_names}
    spec = None if name in taken else importlib.util.find_spec(name)
    if name in taken or (spec is not None and spec.origin is not None):  # a mere folder has no origin
        raise UserError(f"new {name}: there is a package of this name already; choose another name")
