"""Reading a user's files with errors that name them, and writing files whole or not at all."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from attendgen.utils.errors import UserError


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file, with line feeds as line ends and without a byte-order mark.

    Raises:
        UserError: the file is missing, unreadable or not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path) -> Any:
    """Return the contents of a JSON file.

    Raises:
        UserError: the file is missing, not UTF-8 or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: broken JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{path}: broken JSON: nested too deeply") from error


def read_yaml(path: str | Path) -> Any:
    """Return the contents of a YAML file that holds plain data.

    Raises:
        UserError: the file is missing, not UTF-8 or not such YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: broken YAML: {' '.join(str(error).split())}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place if the block succeeds and is removed if not."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes a private file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name, then rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file under a temporary name, then rename it."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, from which finished files or folders are renamed; it is removed afterwards.

    Raises:
        UserError: the parent cannot be written to.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=".partial-"))
    except OSError as error:
        raise UserError(f"{parent}: cannot be written: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Lock a file, which is made if missing, for this process; the lock ends with the process, however that ends.

    Args:
        wait: for another process that has locked the file.

    Raises:
        BlockingIOError: another process has locked it, and `wait` is false.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
