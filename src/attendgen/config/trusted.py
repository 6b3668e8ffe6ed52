"""The packages that this user trusts on this machine: a file in the user's own config folder.

A package is its name and the place from which Python imports it, so that another package of the same name elsewhere is
not trusted.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import lock, read_json, replacing

log = logging.getLogger(__name__)

Places = list[str]  # real paths of a package's folders, or of a module's file


def get_trust_file() -> Path:
    """Return the path of the file: trusted.json in attendgen's folder of the user's settings."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "attendgen" / "trusted.json"  # noqa: PTH117


def read_trusted() -> dict[str, list[Places]]:
    """Return the places of each package that is trusted.

    Raises:
        UserError: the file is broken.
    """
    path = get_trust_file()
    if not path.is_file():
        return {}
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o002:
        log.warning("%s: not used, because others can write it; remove it", path)
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(places, list) for places in found.values()):
        raise UserError(f"{path}: expected lists of places by package; remove the file")
    return found


def is_remembered(package: str) -> bool:
    """Return whether a top-level package, at the place from which Python imports it, is trusted."""
    places = find_places(package) if package.isidentifier() else []
    return bool(places) and places in read_trusted().get(package, [])


def remember(packages: list[str]) -> None:
    """Trust top-level packages at their places from now on.

    Raises:
        UserError: Python finds no such package, or the file cannot be written.
    """
    places = {package: find_places(package) for package in packages}
    missing = [package for package, found in places.items() if not found]
    if missing:
        raise UserError(f"{missing[0]}: no such package; install it, or put its folder on PYTHONPATH")
    with _changing() as trusted:
        for package, found in places.items():
            if found not in trusted.setdefault(package, []):
                trusted[package].append(found)


def forget(package: str) -> None:
    """Trust a package at no place any more.

    Raises:
        UserError: it is not trusted, or the file cannot be written.
    """
    with _changing() as trusted:
        if trusted.pop(package, None) is None:
            raise UserError(f"--remove {package}: not trusted; attendgen trust lists the packages that are")


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, list[Places]]]:
    """Yield what the file holds, and write it back; of several processes one at a time."""
    path = get_trust_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.with_suffix(".lock")):
            trusted = read_trusted()
            yield trusted
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(trusted, indent=2) + "\n", encoding="utf-8")
            path.chmod(0o600)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_refusal(error)}") from error


def find_places(package: str) -> Places:
    """Return the places from which Python imports a top-level package, without importing it; empty if there are none.

    A package without `__init__.py` can have several.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    found = list(spec.submodule_search_locations or []) or [spec.origin or ""]
    return sorted(os.path.realpath(place) for place in found if place and Path(place).exists())


def is_own_code(package: str) -> bool:
    """Return whether a package is the user's own: outside the installed libraries, or made for AttendGen."""
    places = find_places(package)
    if not places:
        return False
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    is_library = any(
        {"site-packages", "dist-packages"} & {*Path(place).parts} or Path(place).is_relative_to(standard)
        for place in places
    )
    return not is_library or _requires_attendgen(package)


def _requires_attendgen(package: str) -> bool:
    for name in metadata.packages_distributions().get(package, []):
        if any(re.match(r"attendgen(?![\w.-])", requirement) for requirement in metadata.requires(name) or []):
            return True
    return False
