"""Where a run comes from: versions, commit, device and command."""

import contextlib
import datetime
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from attendgen.runs.layout import read_arguments
from attendgen.utils.resources import SOURCE


def describe_environment(folder: Path, given: list[str] | None = None) -> dict[str, Any]:
    """Return versions, commit, devices and command of the run in a folder.

    Args:
        given: the arguments of `attendgen train`; those with which the folder's run was started unless given.
    """
    given = given or read_arguments(folder) or sys.argv[1:]  # a sweep's trial is started by another command
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in metadata.requires("attendgen") or []]
    versions = {}
    for package in ("attendgen", "omegaconf", *names):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    changes = ask_git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "commit": ask_git("rev-parse", "HEAD"),
        "changed": None if changes is None else bool(changes),
        "device": ", ".join(gpus) or get_processor(),
        "threads": torch.get_num_threads(),
        "command": ["attendgen", "train", *given],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def get_processor() -> str:
    """Return the processor's name if the system reports it."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def ask_git(*arguments: str) -> str | None:
    """Return git's answer about the source tree; None for an installed package."""
    if (SOURCE / ".git").exists():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            answer = subprocess.check_output(["git", *arguments], cwd=SOURCE, text=True, stderr=subprocess.DEVNULL)
            return answer.strip()
    return None
