"""Downloads from a server that ends connections, changes its files or does not support ranges."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from attendgen.utils.downloads import fetch, unpack
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json
from helpers.file_server import Server, make_zip, serve_files, sha256

CONTENT = random.Random(0).randbytes(100_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve_files({"x.bin": CONTENT}) as server:
        yield server


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("digest", [None, sha256(CONTENT), f"md5:{hashlib.md5(CONTENT).hexdigest()}"])
def test_file_is_downloaded_once(server, tmp_path, digest):
    path = tmp_path / "x.bin"
    for _ in range(2):
        fetch(f"{server.url}/x.bin", path, len(CONTENT), digest)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-"]
    assert list_names(tmp_path) == {"x.bin", "downloads.lock.json"}
    recorded = read_json(tmp_path / "downloads.lock.json")["x.bin"]
    assert recorded == {"url": f"{server.url}/x.bin", "size": len(CONTENT), "digest": digest or sha256(CONTENT)}


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_resumes(server, tmp_path, ranges):
    server.ranges, server.stop_after = ranges, 60_000
    path = tmp_path / "x.bin"
    with pytest.raises(UserError, match=r"broke off after 60000 of 100000 bytes; run this again"):
        fetch(f"{server.url}/x.bin", path, digest=sha256(CONTENT))
    assert list_names(tmp_path) == {"x.bin.part"}
    server.stop_after = None
    fetch(f"{server.url}/x.bin", path, digest=sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=60000-"]
    assert "x.bin.part" not in list_names(tmp_path)


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_complete_part_is_only_checked(server, tmp_path, size):
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", size, sha256(CONTENT))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_part_that_is_too_long_is_downloaded_again(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(CONTENT + b"more")
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_wrong_digest_leaves_no_file(server, tmp_path):
    with pytest.raises(UserError, match=r"x\.bin\.part: sha256:.* should be sha256:0000"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", digest="sha256:0000")
    assert list_names(tmp_path) == set()


def test_wrong_size_is_refused_before_the_download(server, tmp_path):
    with pytest.raises(UserError, match=r"x\.bin: 100000 bytes, expected 99999"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", 99_999)
    assert list_names(tmp_path) == set()


def test_first_download_is_trusted_and_later_ones_must_equal_it(server, tmp_path):
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


def test_missing_file_and_unreachable_server_are_refused(server, tmp_path):
    with pytest.raises(UserError, match=r"/y\.bin: 404 Not Found"):
        fetch(f"{server.url}/y.bin", tmp_path / "y.bin")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1/z: .*; run this again to resume"):
        fetch("http://127.0.0.1:1/z", tmp_path / "z")
    assert list_names(tmp_path) == set()


def test_unpack_extracts_the_given_members_alone(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip(photos__a="1", photos__b="2", photos2__c="3", notes="4", more__x="5"))
    unpack(archive, {"photos": "Images", "more/x": "deep/y"}, tmp_path)
    assert list_names(tmp_path) == {"a.zip", "Images", "deep"}
    assert {path.name: path.read_text() for path in (tmp_path / "Images").iterdir()} == {"a": "1", "b": "2"}
    assert (tmp_path / "deep/y").read_text() == "5"


@pytest.mark.parametrize("member", ["photos", "absent"])
def test_broken_archive_leaves_no_file(tmp_path, member):
    archive = tmp_path / "a.zip"
    data = make_zip(photos__a="1" * 1000)
    archive.write_bytes(data if member == "absent" else data.replace(b"1111", b"2222", 1))
    with pytest.raises(UserError, match=r"a\.zip: (there is no absent in it|cannot be unpacked: Bad CRC)"):
        unpack(archive, {member: "there"}, tmp_path)
    assert list_names(tmp_path) == {"a.zip"}
