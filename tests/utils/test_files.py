import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset

from attendgen.utils.errors import UserError
from attendgen.utils.files import (
    lock,
    read_json,
    read_text,
    read_yaml,
    replacing,
    temporary_folder,
    write_json,
    write_text,
)
from attendgen.utils.lines import read_line_blocks
from helpers.errors import refusal

VALUE = {"name": "Zoé", "numbers": [1, 2.5, None], "nested": {"a": True}}


def test_read_text_removes_carriage_returns_and_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfun\r\ndeux\rtrois\n" + "été".encode())
    assert read_text(path) == "un\ndeux\ntrois\nété"


def test_written_json_is_read_again(tmp_path):
    write_json(tmp_path / "new" / "folder" / "value.json", VALUE)
    assert read_json(tmp_path / "new" / "folder" / "value.json") == VALUE
    assert "Zoé" in read_text(tmp_path / "new" / "folder" / "value.json")


def test_byte_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("ligne\nété".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt: line 2: not UTF-8 \(byte 6\)"):
        read_text(path)


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        ("un\ndeux\n".encode("utf-16-le"), "line 1: a NUL character, which no text has; it looks like utf_16_le"),
        ("un\ndeux\n".encode("utf-16-be"), "line 1: a NUL character, which no text has; it looks like utf_16_be"),
        ("été\n".encode("utf-16-le"), "line 1: not UTF-8 (byte 0); it looks like utf_16_le"),
        (b"un\nd\0eux\n", "line 2: a NUL character, which no text has; remove it"),
        (gzip.compress(b"un\n"), "a packed file (gzip), not a text"),
        (bz2.compress(b"un\n"), "a packed file (bzip2), not a text"),
        (lzma.compress(b"un\n"), "a packed file (xz), not a text"),
        (b"PK\x03\x04...", "a packed file (zip or spreadsheet), not a text"),
    ],
)
def test_what_is_no_text_is_refused_with_advice(tmp_path, monkeypatch, data, advice):
    path = tmp_path / "file"
    path.write_bytes(data)
    assert refusal(read_text, path).startswith(f"{path}: {advice}")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    streamed = refusal(lambda: list(read_line_blocks("-")))
    assert streamed.startswith(f"standard input: {advice}".replace(" (byte 0)", ""))
    assert "data.encoding" not in streamed


def test_text_of_utf16_without_a_mark_is_read_in_that_encoding(tmp_path):
    (tmp_path / "file").write_bytes("un\ndeux\n".encode("utf-16-le"))
    assert read_text(tmp_path / "file", "utf_16_le") == "un\ndeux\n"


def test_broken_json_is_refused_with_its_line(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"a": 1,\n"b": }')
    with pytest.raises(UserError, match=r"broken\.json: line 2: broken JSON"):
        read_json(path)


def test_unreadable_paths_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: No such file"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="directory"):
        read_text(tmp_path)


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "inside.txt", "text")


def test_failed_write_keeps_the_old_file_alone(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.txt"]


def test_finished_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["kept.txt"]


def test_a_folder_and_a_pipe_are_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.symlink("pipe", tmp_path / "link")
    for name in ("folder", "pipe", "link", "", ".", ".."):
        message = refusal(write_text, Path(name), "text")
        assert message.startswith(f"{Path(name)}: cannot be written: ")
    assert stat.S_ISFIFO((tmp_path / "link").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]


def test_a_full_disk_names_the_file(tmp_path):
    def write() -> None:
        with replacing(tmp_path / "page.html"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"page\.html"):
        write()
    assert os.listdir(tmp_path) == []


def test_written_file_has_default_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "written", "text")
    plain, written = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "written"))
    assert written == plain


class Failing(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        return read_text("absent.txt")


@pytest.mark.parametrize("workers", [0, 1])
def test_message_from_a_worker_is_one_line(workers):
    with pytest.raises(UserError) as caught:
        list(DataLoader(Failing(), num_workers=workers))
    assert str(caught.value) == "absent.txt: No such file or directory; check the path"
    traceback.clear_frames(caught.tb)  # the loader's end would else wait for the garbage collector, and 5 s more


def test_yaml_is_read_and_broken_yaml_is_refused(tmp_path):
    path = tmp_path / "value.yaml"
    path.write_text("a: [1, 2]\nb: été\n", encoding="utf-8")
    assert read_yaml(path) == {"a": [1, 2], "b": "été"}
    for text in ("a: [1", "a: !!python/object:os.system {}"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"value\.yaml: broken YAML"):
            read_yaml(path)


def test_temporary_folder_is_removed_with_what_is_left_in_it(tmp_path):
    with temporary_folder(tmp_path / "parent") as folder:
        assert folder.parent == tmp_path / "parent"
        (folder / "done").write_text("done")
        (folder / "left").mkdir()
        (folder / "done").rename(tmp_path / "parent" / "done")
    assert os.listdir(tmp_path / "parent") == ["done"]
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path / "parent"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "parent") == ["done"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"), temporary_folder(tmp_path / "file"):
        pass


def test_lock_excludes_others_until_the_end_of_the_block(tmp_path):
    path = tmp_path / "lock"
    with lock(path), pytest.raises(BlockingIOError), lock(path, wait=False):
        pass
    with lock(path, wait=False):
        pass


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, encoding):
    (tmp_path / "text.txt").write_bytes("été\r\n東京 😀".encode(encoding))
    assert read_text(tmp_path / "text.txt") == "été\n東京 😀"
    assert read_text(tmp_path / "text.txt", "cp1252") == "été\n東京 😀"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "El niño comió.\n"),
        ("cp1252", "L'élève étudie près de la forêt où règne l'été.\n"),
        ("cp1251", "Мальчик читает книгу у окна, а девочка рисует.\n"),
        ("gb18030", "一个男孩在窗边读书，一个女孩在画画。\n"),
        ("shift_jis", "男の子が窓のそばで本を読んでいる。女の子は絵を描いている。\n"),
    ],
)
def test_another_encoding_is_guessed_and_can_be_given(tmp_path, encoding, text):
    path = tmp_path / "text.txt"
    path.write_bytes((text * 20).encode(encoding))
    with pytest.raises(UserError, match=f"not UTF-8.*data.encoding={encoding}"):
        read_text(path)
    assert read_text(path, encoding) == text * 20


def test_an_encoding_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("a")
    with pytest.raises(UserError, match=r"data\.encoding=utf-9: no such encoding"):
        read_text(tmp_path / "text.txt", "utf-9")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_works_with_one_warning(tmp_path, monkeypatch, caplog, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    for name in ("a", "b"):
        with lock(tmp_path / name):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: this file system has no locks; let one process at a time use it"
    ]
