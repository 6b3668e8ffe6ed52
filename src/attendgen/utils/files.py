"""Reading a user's files with errors that name them, and writing files whole or not at all."""

import codecs
import errno
import fcntl
import functools
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from attendgen.utils.errors import UserError, describe_refusal

log = logging.getLogger(__name__)

# byte-order marks and the encodings that they name; the longer ones first, because one begins with another
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | Path, encoding: str | None = None) -> str:
    """Return the text of a file, with line feeds as line ends and without a byte-order mark.

    A byte-order mark names the encoding, whatever is given.

    Args:
        encoding: of a file without such a mark; UTF-8 unless given.

    Raises:
        UserError: the file is missing, unreadable, packed or in another encoding, or there is no such encoding.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {describe_refusal(error)}") from error
    require_unpacked(path, data)
    mark, name = next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", encoding or "utf-8"))
    try:
        text = data[len(mark) :].decode(str(name))
    except LookupError as error:
        raise UserError(f"data.encoding={name}: no such encoding; a common one is cp1252") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = "UTF-8" if name == "utf-8" else name
        raise UserError(f"{path}: line {line}: not {what} (byte {error.start}); {advise_encoding(data)}") from error
    except UnicodeError as error:
        raise UserError(f"{path}: not {name}: {error}; give another data.encoding") from error
    if NUL in text:
        line = text[: text.index(NUL)].count("\n") + 1
        raise UserError(f"{path}: line {line}: a NUL character, which no text has; {advise_encoding(data)}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


NUL = "\0"
# the first bytes of packed files
PACKED = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "zip or spreadsheet": re.compile(rb"PK\x03\x04"),
}


def require_unpacked(name: str | Path, data: bytes) -> None:
    """Check that the first bytes of a file are not those of a packed one.

    Raises:
        UserError: they are.
    """
    kind = next((kind for kind, first in PACKED.items() if first.match(data)), None)
    if kind is not None:
        raise UserError(f"{name}: a packed file ({kind}), not a text; unpack it, or save it as text")


# encodings of texts that are not Unicode, the more frequent ones first: guesses among all encodings are worse
COMMON = (
    "cp1252 cp1251 gb18030 shift_jis big5 euc_kr euc_jp cp1250 cp1253 cp1254 cp1255 cp1256 koi8_r utf_16_le utf_16_be"
)


def advise_encoding(data: bytes) -> str:
    """Return what to do with a file that is not in the expected encoding: which one it looks like, if one does."""
    if wide := find_wide_encoding(data):
        return f"it looks like {wide}: convert the file to UTF-8, or set data.encoding={wide}"
    if b"\0" in data:
        return "remove it, or convert the file to UTF-8"
    import charset_normalizer

    candidates = COMMON.split()
    found = charset_normalizer.from_bytes(data[:100_000], cp_isolation=candidates)
    known = [match for match in found if match.encoding in candidates]  # it may also guess UTF-8, which it is not
    if not known:
        return "convert the file to UTF-8"

    def rank(match: Any) -> tuple[Any, ...]:
        return _mixes_alphabets(str(match)), match.chaos, -match.coherence, candidates.index(match.encoding)

    best = min(known, key=rank).encoding
    return f"it looks like {best}: convert the file to UTF-8, or set data.encoding={best}"


def find_wide_encoding(data: bytes) -> str | None:
    """Return in which UTF-16 a text without a byte-order mark seems to be: each second byte of most texts is zero."""
    head = data[:100_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if 4 * max(even, odd) < len(head) or min(even, odd) > max(even, odd) // 4:
        return None
    return "utf_16_be" if even > odd else "utf_16_le"


# words of Latin letters and those of another alphabet; Chinese and Japanese are written beside Latin ones
OTHER = "[\u0370-\u04ff\u0590-\u06ff]"  # Greek, Cyrillic, Hebrew, Arabic
MIXED = re.compile(f"[A-Za-z]{OTHER}|{OTHER}[A-Za-z]")


def _mixes_alphabets(text: str) -> bool:
    """Return whether most words with letters of an alphabet that is not Latin also have Latin ones."""
    words = [word for word in text.split() if re.search(OTHER, word)]
    return 2 * sum(MIXED.search(word) is not None for word in words) > len(words)


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
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path}: broken JSON: {error}") from error


def read_yaml(path: str | Path) -> Any:
    """Return the contents of a YAML file that holds plain data.

    Raises:
        UserError: the file is missing, not UTF-8 or not such YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # also a date that is none
        raise UserError(f"{path}: broken YAML: {' '.join(str(error).split())}") from error


def exists(path: str | Path) -> bool:
    """Return whether there is a file or a folder; a name that the system refuses, such as one too long, is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether there is a folder of that name."""
    return exists(path) and Path(path).is_dir()


def require_replaceable(path: Path) -> None:
    """Check that a path can be taken by a new file: a device would be lost, and a folder cannot be replaced.

    Raises:
        UserError: it is a folder, a device or a pipe.
    """
    if path.name in ("", "..") or is_folder(path):
        raise UserError(f"{path}: cannot be written: Is a directory; give a file")
    if exists(path) and not path.is_file():
        raise UserError(f"{path}: cannot be written: a device or a pipe; give a file")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place if the block succeeds and is removed if not.

    Raises:
        UserError: the folder cannot be written to, or the path is a folder, a device or a pipe.
    """
    path = Path(path)
    require_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_refusal(error)}") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes a private file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error of writing, such as that of a full disk, name the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


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
        raise UserError(f"{parent}: cannot be written: {describe_refusal(error)}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# what file systems without locks answer
NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Lock a folder, or a file, which is made if missing; the lock ends with the process, however that ends.

    On a file system without locks the block runs without one, with a warning.

    Args:
        wait: for another process that has locked it.

    Raises:
        BlockingIOError: another process has locked it, and `wait` is false.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warn_without_locks(path.parent)
        yield
    finally:
        os.close(descriptor)


@functools.cache
def warn_without_locks(folder: Path) -> None:
    """Log once that files in a folder cannot be locked."""
    log.warning("%s: this file system has no locks; let one process at a time use it", folder)
