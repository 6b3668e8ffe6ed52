"""Where a run comes from: versions, commit, device and command."""

import contextlib
import datetime
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from attendgen.config.trust import LIBRARIES, VARIABLE, iterate_values
from attendgen.config.trusted import find_places
from attendgen.runs.layout import HYDRA, LIKE, read_arguments
from attendgen.utils.files import read_yaml
from attendgen.utils.resources import SOURCE, get_conf_dir


def describe_environment(folder: Path, config: dict[str, Any], command: list[str] | None = None) -> dict[str, Any]:
    """Return versions, commits, devices and command of the run in a folder.

    Args:
        config: of the run; the packages of the user's own that it names are described, too.
        command: the arguments of `attendgen train`; those with which the folder's run was started unless given.
    """
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in list_requirements()]
    versions = {}
    for package in ("attendgen", "omegaconf", *names):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    changes = ask_git(SOURCE, "status", "--porcelain", "--untracked-files=no") if (SOURCE / ".git").exists() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "commit": ask_git(SOURCE, "rev-parse", "HEAD") if (SOURCE / ".git").exists() else None,
        "changed": None if changes is None else bool(changes),
        "own_packages": describe_own_packages(config),
        "device": ", ".join(gpus) or get_processor(),
        "threads": torch.get_num_threads(),
        "command": ["attendgen", "train", *(command or read_command(folder))],
        "directory": str(Path.cwd()),
        "pythonpath": os.environ.get("PYTHONPATH"),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def list_requirements() -> list[str]:
    """Return what AttendGen requires, also if it is not installed but run from its source."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.requires("attendgen") or []
    with contextlib.suppress(OSError):
        return tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return []


def read_command(folder: Path) -> list[str]:
    """Return the arguments that start the run in a folder again, in a new folder.

    Hydra has written them; the process of a sweep's trial was started by another command.
    """
    arguments = read_arguments(folder)
    path = folder / HYDRA / "hydra.yaml"
    if not path.is_file():
        return arguments or sys.argv[1:]
    settings = read_yaml(path)["hydra"]
    options = []
    for source in settings["runtime"]["config_sources"]:
        if source["provider"] == "command-line":
            options += ["--config-dir", source["path"]]
        elif source["provider"] == "main" and source["path"] != str(get_conf_dir()):
            options += ["--config-path", source["path"]]
    if settings["job"]["config_name"] != "train":
        options += ["--config-name", settings["job"]["config_name"]]
    searched = [text for text in settings["overrides"]["hydra"] if text.lstrip("+").startswith("hydra.searchpath=")]
    trusted = os.environ.get(VARIABLE, "")
    needs_trust = any(argument.startswith((LIKE, "init_from=")) for argument in arguments)
    options += [f"--trust={package}" for package in trusted.split(",") if package and needs_trust]
    return [*options, *searched, *arguments]


def describe_own_packages(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return version, folder and commit of every package that a config names, except AttendGen and its libraries."""
    targets = [value for field, value in iterate_values(config, "config") if field.rpartition(".")[2] == "_target_"]
    names = {target.partition(".")[0] for target in targets if isinstance(target, str)} - LIBRARIES
    return {name: _describe_package(name, places) for name in sorted(names) if (places := find_places(name))}


def _describe_package(name: str, places: list[str]) -> dict[str, Any]:
    version = None
    for distribution in [name, *metadata.packages_distributions().get(name, [])]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(distribution)
    place = Path(places[0])
    folder = place if place.is_dir() else place.parent
    pattern = "." if place.is_dir() else place.name
    # a folder within a repository that does not track it, such as an environment, has no commit of its own
    if not ask_git(folder, "ls-files", "--", pattern):
        return {"version": version, "folder": str(place), "commit": None, "changed": None}
    lines = (ask_git(folder, "status", "--porcelain", "--untracked-files=all", "--", pattern) or "").splitlines()
    changed = [line for line in lines if not line.startswith("??") or line.endswith((".py", ".yaml"))]
    commit = ask_git(folder, "rev-parse", "HEAD")
    return {"version": version, "folder": str(place), "commit": commit, "changed": bool(changed)}


def get_processor() -> str:
    """Return the processor's name if the system reports it."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Return git's answer about a folder; None if there is no git or no repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", *arguments]
        return subprocess.check_output(command, cwd=folder, text=True, stderr=subprocess.DEVNULL).strip()
    return None
