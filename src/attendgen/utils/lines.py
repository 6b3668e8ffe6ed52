"""Files of lines, read and written as a stream."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import MARKS, NUL, advise_encoding, naming, require_unpacked

BLOCK = 1 << 16  # bytes that are read together
STANDARD = "-"  # the name of standard input


@runtime_checkable
class Reader(Protocol):
    """A buffered binary file."""

    def read1(self, size: int, /) -> bytes:
        """Return what can be read at once."""


def read_line_blocks(name: str | Path) -> Iterator[list[str]]:
    """Yield the lines of a file, block by block: those that 64 KiB hold, or those that have arrived at a pipe.

    The file is in UTF-8, or in the encoding that its byte-order mark names. A line ends with LF, CR LF or CR.

    Args:
        name: a path, or "-" for standard input.

    Raises:
        UserError: the file is missing, unreadable or packed, or in another encoding.
    """
    if name == STANDARD:
        if sys.stdin is None:
            raise UserError("standard input: closed; give a file, or something by a pipe")
        stdin: Any = sys.stdin.buffer  # its type does not promise `read1`
        yield from _decode_lines(stdin, "standard input")
        return
    try:
        with Path(name).open("rb") as file:
            yield from _decode_lines(file, str(name))
    except OSError as error:
        raise UserError(f"{name}: {describe_refusal(error)}") from error


def _decode_lines(file: Reader, name: str) -> Iterator[list[str]]:
    """Yield the lines of an open file, block by block."""
    encoding, block = _read_mark(file)
    require_unpacked(name, block)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    count, rest, ended = 0, "", False
    while not ended:
        ended = not block
        try:
            rest += decoder.decode(block, final=ended)
        except UnicodeDecodeError as error:
            line = count + 1 + rest.count("\n") + block[: error.start].count(b"\n")
            advice = advise_encoding(block).partition(", or set")[0]
            raise UserError(f"{name}: line {line}: not {encoding.upper()}; {advice}") from error
        if NUL in rest:
            line = count + 1 + rest[: rest.index(NUL)].count("\n")
            advice = advise_encoding(block).partition(", or set")[0]
            raise UserError(f"{name}: line {line}: a NUL character, which no text has; {advice}")
        *lines, rest = rest.split("\n")
        if ended and rest:
            lines.append(rest)
        if lines:
            count += len(lines)
            yield lines
        block = b"" if ended else file.read1(BLOCK)


def _read_mark(file: Reader) -> tuple[str, bytes]:
    """Return the encoding that a byte-order mark names, UTF-8 without one, and the first bytes after the mark."""
    head = file.read1(BLOCK)
    while any(mark.startswith(head) and mark != head for mark, _ in MARKS) and (more := file.read1(BLOCK)):
        head += more
    mark, name = next(((mark, name) for mark, name in MARKS if head.startswith(mark)), (b"", "utf-8"))
    return name, head[len(mark) :] or file.read1(BLOCK)


def count_lines(name: str | Path) -> int | None:
    """Return about how many lines a file has; None for standard input and what can be read only once."""
    if name == STANDARD or not Path(name).is_file():
        return None
    with contextlib.suppress(OSError), Path(name).open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
    return None  # what reads the lines reports it


class LineWriter:
    """Writes lines to a file, or to standard output; used as a context.

    A file holds all lines that have been written when the program ends, however it ends.

    Args:
        path: None for standard output.
        resume: append to a file that exists.

    Attributes:
        done: number of lines that the file had.

    Raises:
        UserError: the file exists and is not to be continued, or cannot be written.
    """

    def __init__(self, path: Path | None, resume: bool = False) -> None:
        self.done = 0
        self._file: IO[str] = sys.stdout
        self._owned = path is not None
        self._name = "standard output" if path is None else path
        if path is None:
            return
        try:
            if resume and path.exists():
                self.done = _drop_unfinished(path)
            elif path.exists():
                raise UserError(f"--output {path}: exists; --resume continues it, or give another file")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
            # closed at the context's end; names of files may have bytes that are no text, which are written as they are
            self._file = path.open("a", encoding="utf-8", errors="surrogateescape", newline="\n")
        except OSError as error:
            raise UserError(f"--output {path}: cannot be written: {describe_refusal(error)}") from error

    def __enter__(self) -> "LineWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._owned:
            self._file.close()

    def write(self, lines: list[str]) -> None:
        """Write lines; each line break within one becomes a blank."""
        with naming(self._name):
            self._file.writelines(" ".join(line.splitlines()) + "\n" for line in lines)
            self._file.flush()


def _drop_unfinished(path: Path) -> int:
    """Remove a last line without a line end from a file; return the number of the other lines."""
    lines, end, size = 0, 0, 0
    with path.open("rb+") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            found = block.count(b"\n")
            end = size + block.rfind(b"\n") + 1 if found else end
            lines, size = lines + found, size + len(block)
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())
    return lines
