"""Lines of any encoding and line end, in blocks of any size; files that are continued."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from attendgen.utils import lines
from attendgen.utils.lines import LineWriter, count_lines, read_line_blocks
from helpers.errors import refusal

TEXT = ["un", "", "été 😀", "c\u2028d", "fin"]


class Slow(io.BytesIO):
    """A pipe in which a few bytes arrive at a time."""

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_any_encoding_are_read_whatever_arrives_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, end: str
) -> None:
    data = end.join(TEXT).encode(encoding)
    (tmp_path / "lines.txt").write_bytes(data)
    assert [line for block in read_line_blocks(tmp_path / "lines.txt") for line in block] == TEXT
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Slow(data)))
    assert [line for block in read_line_blocks("-") for line in block] == TEXT


def test_another_encoding_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 4)
    (tmp_path / "latin.txt").write_bytes("un\ndeux\nl'été dernier\n".encode("latin-1"))
    found = []

    def read() -> None:
        for block in read_line_blocks(tmp_path / "latin.txt"):
            found.extend(block)

    assert "latin.txt: line 3: not UTF-8; " in refusal(read)
    assert found == ["un", "deux"]
    assert "none.txt" in refusal(next, read_line_blocks(tmp_path / "none.txt"))


def test_lines_are_counted_where_they_can_be_read_twice(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a\n\nb\n")
    assert count_lines(tmp_path / "lines.txt") == 3
    assert count_lines("-") is None


def test_output_is_continued_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with LineWriter(path) as writer:
        writer.write(["one", "a\nb"])
    assert path.read_text() == "one\na b\n"
    assert "--resume" in refusal(LineWriter, path)
    path.write_text("one\na b\nthr")
    with LineWriter(path, resume=True) as writer:
        assert writer.done == 2
        writer.write(["three"])
    assert path.read_text() == "one\na b\nthree\n"
    assert "cannot be written" in refusal(LineWriter, path / "below.txt")


def test_standard_input_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert refusal(lambda: list(read_line_blocks("-"))).startswith("standard input: closed")


def test_lines_of_a_file_that_cannot_be_opened_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads them tells why, as a mistake."""
    (tmp_path / "lines.txt").write_text("un\ndeux\n")
    assert count_lines(tmp_path / "lines.txt") == 2

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert count_lines(tmp_path / "lines.txt") is None
    assert "Permission denied" in refusal(lambda: list(read_line_blocks(tmp_path / "lines.txt")))
