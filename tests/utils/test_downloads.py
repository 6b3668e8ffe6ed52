"""Downloads from a server on this machine that breaks off, changes its files or knows no ranges."""

import gzip
import hashlib
import http.server
import importlib.util
import io
import random
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from attendgen.utils.downloads import fetch, unpack
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json

CONTENT = random.Random(0).randbytes(100_000)


class Server(http.server.ThreadingHTTPServer):
    """What it has, by path, and what it was asked for."""

    files: dict[str, bytes]
    asked: list[str]
    ranges = True
    stop_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        data = self.server.files.get(self.path.rpartition("/")[2])
        if data is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if self.server.ranges else 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            return self.end_headers()
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.server.stop_after is None else start + self.server.stop_after
        self.wfile.write(data[start:end])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {"x.bin": CONTENT}, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.encode()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("digest", [None, sha256(CONTENT), f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_a_file_is_fetched_once(server, tmp_path, digest):
    path = tmp_path / "x.bin"
    for _ in range(2):
        fetch(f"{server.url}/x.bin", path, len(CONTENT), digest)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-"]
    assert names(tmp_path) == {"x.bin", "downloads.lock.json"}
    noted = read_json(tmp_path / "downloads.lock.json")["x.bin"]
    assert noted == {"url": f"{server.url}/x.bin", "size": len(CONTENT), "digest": digest or sha256(CONTENT)}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(server, tmp_path, ranges):
    server.ranges, server.stop_after = ranges, 60_000
    path = tmp_path / "x.bin"
    with pytest.raises(UserError, match=r"broke off after 60000 of 100000 bytes; run this again"):
        fetch(f"{server.url}/x.bin", path, digest=sha256(CONTENT))
    assert names(tmp_path) == {"x.bin.part"}
    server.stop_after = None
    fetch(f"{server.url}/x.bin", path, digest=sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=60000-"]
    assert "x.bin.part" not in names(tmp_path)


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_whole_is_only_checked(server, tmp_path, size):
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", size, sha256(CONTENT))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(CONTENT + b"more")
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_wrong_digest_leaves_nothing(server, tmp_path):
    with pytest.raises(UserError, match=r"x\.bin\.part: sha256:.* should be sha256:0000"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", digest="sha256:0000")
    assert names(tmp_path) == set()


def test_another_size_is_refused_before_anything_is_written(server, tmp_path):
    with pytest.raises(UserError, match=r"x\.bin: 100000 bytes, expected 99999"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", 99_999)
    assert names(tmp_path) == set()


def test_the_first_download_is_trusted_and_later_ones_must_equal_it(server, tmp_path):
    path = tmp_path / "x.bin"
    fetch(f"{server.url}/x.bin", path)
    path.write_bytes(b"changed here")
    with pytest.raises(UserError, match="should be sha256"):
        fetch(f"{server.url}/x.bin", path)
    path.unlink()
    server.files["x.bin"] = b"changed there"
    with pytest.raises(UserError, match="should be sha256"):
        fetch(f"{server.url}/x.bin", path)
    assert not path.exists()
    server.files["x.bin"] = CONTENT
    fetch(f"{server.url}/x.bin", path)


def test_what_is_not_there_or_cannot_be_reached_is_named(server, tmp_path):
    with pytest.raises(UserError, match=r"/y\.bin: 404 Not Found"):
        fetch(f"{server.url}/y.bin", tmp_path / "y.bin")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1/z: .*; run this again to go on"):
        fetch("http://127.0.0.1:1/z", tmp_path / "z")
    assert names(tmp_path) == set()


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return out.getvalue()


def test_only_what_is_wanted_is_unpacked(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(photos__a="1", photos__b="2", photos2__c="3", notes="4", more__x="5"))
    unpack(archive, {"photos": "Images", "more/x": "deep/y"}, tmp_path)
    assert names(tmp_path) == {"a.zip", "Images", "deep"}
    assert {path.name: path.read_text() for path in (tmp_path / "Images").iterdir()} == {"a": "1", "b": "2"}
    assert (tmp_path / "deep/y").read_text() == "5"


@pytest.mark.parametrize("member", ["photos", "absent"])
def test_a_broken_archive_leaves_nothing(tmp_path, member):
    archive = tmp_path / "a.zip"
    data = zipped(photos__a="1" * 1000)
    archive.write_bytes(data if member == "absent" else data.replace(b"1111", b"2222", 1))
    with pytest.raises(UserError, match=r"a\.zip: (there is no absent in it|cannot be unpacked: Bad CRC)"):
        unpack(archive, {member: "there"}, tmp_path)
    assert names(tmp_path) == {"a.zip"}


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "download_data.py"
    spec = importlib.util.spec_from_file_location("download_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flickr8k_lies_as_the_experiments_want_it(script, server, tmp_path, monkeypatch):
    texts, pictures = script.ARCHIVES["flickr8k"]
    server.files = {
        "Flickr8k_text.zip": zipped(**dict.fromkeys(texts.members, "x"), readme="y"),
        "Flickr8k_Dataset.zip": zipped(Flicker8k_Dataset__a="1", _MACOSX__b="2"),
    }
    local = tuple(
        one._replace(url=f"{server.url}/{name}", digest=sha256(data))
        for one, (name, data) in zip((texts, pictures), server.files.items(), strict=True)
    )
    monkeypatch.setitem(script.ARCHIVES, "flickr8k", local)
    for _ in range(2):
        script.main(["flickr8k", "--root", str(tmp_path)])
    assert names(tmp_path) == {*texts.members, "Images", "downloads.lock.json"}
    assert len(server.asked) == 2


def test_multi30k_becomes_pairs(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "MULTI30K", server.url)
    server.files = {
        f"{split}.{language}.gz": gzip.compress(text.encode())
        for split in ("train", "val")
        for language, text in (("fr", "Un chien.\nDeux \n"), ("en", "A dog.\nTwo\n"))
    }
    script.main(["multi30k", "--root", str(tmp_path)])
    assert (tmp_path / "train.fr-en.tsv").read_text() == "Un chien.\tA dog.\nDeux\tTwo\n"
    assert "not the pairs that the README's results come from" in capsys.readouterr().err


def test_the_pairs_at_hand_are_the_ones_expected(script, shared):
    for split, digest in script.PAIRS.items():
        assert sha256((shared / f"data/multi30k/{split}.fr-en.tsv").read_bytes()) == digest


def test_novels_lose_their_licence(script, server, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "GUTENBERG", server.url)
    book = "Title\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nCall me.\n\n*** END OF THE PROJECT ***\nlicence\n"
    server.files = {f"pg{number}.txt": book.encode() for number in script.NOVELS.values()}
    script.main(["novels", "--root", str(tmp_path)])
    assert {path.stem for path in tmp_path.glob("*.txt")} == set(script.NOVELS)
    assert (tmp_path / "dracula.txt").read_text() == "Call me.\n"


def test_mistakes_end_with_one_line(script, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "GUTENBERG", server.url)
    with pytest.raises(SystemExit) as caught:
        script.main(["novels", "--root", str(tmp_path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
