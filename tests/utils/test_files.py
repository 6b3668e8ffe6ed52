import os
import stat
import traceback
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text, replacing, write_json, write_text

VALUE = {"name": "Zoé", "numbers": [1, 2.5, None], "nested": {"a": True}}


def test_text_comes_back_with_plain_line_ends_and_no_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfun\r\ndeux\rtrois\n" + "été".encode())
    assert read_text(path) == "un\ndeux\ntrois\nété"


def test_written_values_come_back(tmp_path):
    write_json(tmp_path / "new" / "folder" / "value.json", VALUE)
    assert read_json(tmp_path / "new" / "folder" / "value.json") == VALUE
    assert "Zoé" in read_text(tmp_path / "new" / "folder" / "value.json")


def test_a_byte_that_is_not_utf8_is_located(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("ligne\nété".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt: line 2: not UTF-8 \(byte 6\)"):
        read_text(path)


def test_broken_json_is_located(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"a": 1,\n"b": }')
    with pytest.raises(UserError, match=r"broken\.json: line 2: broken JSON"):
        read_json(path)


def test_unreadable_paths_are_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: No such file"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="directory"):
        read_text(tmp_path)


def test_an_impossible_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        write_text(tmp_path / "file" / "inside.txt", "text")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.txt"]


def test_a_finished_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["kept.txt"]


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
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
def test_a_message_stays_one_line_through_a_worker(workers):
    with pytest.raises(UserError) as caught:
        list(DataLoader(Failing(), num_workers=workers))
    assert str(caught.value) == "absent.txt: No such file or directory"
    traceback.clear_frames(caught.tb)  # the loader's end would else wait for the garbage collector, and 5 s more
