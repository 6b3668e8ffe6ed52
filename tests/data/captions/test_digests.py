import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from attendgen.data.captions import digests
from attendgen.data.captions.digests import DIGESTS, digest_images

NUMBER = 20


def draw(folder: Path, color: str) -> list[Path]:
    """Save a bitmap of one color; the files of all colors have the same size."""
    folder.mkdir(parents=True)
    path = folder / "0001.bmp"
    Image.new("RGB", (8, 8), color).save(path)
    return [path]


def blake2b(paths: list[Path]) -> list[str]:
    return [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in paths]


@pytest.fixture
def digested(monkeypatch) -> list[Path]:
    """Record the files whose content is digested; a file's times count soon after its last change."""
    seen: list[Path] = []
    digest = digests.digest_file

    def watch(path: Path) -> str:
        seen.append(path)
        return digest(path)

    monkeypatch.setattr(digests, "digest_file", watch)
    monkeypatch.setattr(digests, "SETTLED", 0.02)
    return seen


def settle() -> None:
    """Wait until the clock of the file system has moved on, and SETTLED has passed."""
    time.sleep(0.1)


def test_digests_are_computed_once(images, folder, digested):
    settle()
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images
    digested.clear()
    assert digest_images(images[::-1], folder) == blake2b(images)[::-1]
    assert not digested
    relative = [Path(os.path.relpath(path)) for path in images]
    assert digest_images(relative, folder) == blake2b(images)
    assert not digested


@pytest.mark.parametrize("keep_times", [True, False])
def test_overwritten_image_is_digested_again(images, folder, digested, keep_times):
    settle()
    digest_images(images, folder)
    digested.clear()
    before = images[3].stat()
    data = bytearray(images[3].read_bytes())
    data[-20] ^= 1
    images[3].write_bytes(data)
    if keep_times:
        os.utime(images[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = images[3].stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert (after.st_mtime_ns == before.st_mtime_ns) == keep_times
    assert digest_images(images, folder) == blake2b(images)
    assert digested == [images[3]]


def test_digest_is_not_kept_soon_after_a_change(images, folder, digested, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 3600.0)  # the next change may happen within one tick of the clock
    for _ in range(2):
        assert digest_images(images, folder) == blake2b(images)
    assert digested == 2 * images


def test_swapped_folders_are_digested_again(tmp_path, folder, digested):
    (red,), (blue,) = draw(tmp_path / "a", "red"), draw(tmp_path / "b", "blue")
    os.utime(blue, ns=(red.stat().st_atime_ns, red.stat().st_mtime_ns))
    settle()
    before = digest_images([red, blue], folder)
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert digest_images([red, blue], folder) == before[::-1] == blake2b([red, blue])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "[1, 2]",
        lambda text: "9" * 5000,
        lambda text: json.dumps(dict.fromkeys(json.loads(text), 3)),
        lambda text: json.dumps({folder: {name: [1] for name in names} for folder, names in json.loads(text).items()}),
        lambda text: re.sub(r" [0-9a-f]{32}\"", ' "', text),  # all digests would be equal
        lambda text: re.sub(r"[0-9a-f]\"", '"', text),
        lambda text: "\udcff",
    ],
    ids=["empty", "cut", "deep", "list", "number", "no folders", "no entries", "no digests", "cut digests", "bytes"],
)
def test_broken_store_is_computed_again(images, folder, digested, damage):
    settle()
    digest_images(images, folder)
    store = folder / DIGESTS
    store.write_text(damage(store.read_text()), errors="surrogateescape")
    digested.clear()
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images
    digested.clear()
    assert digest_images(images, folder) == blake2b(images)
    assert not digested


def test_store_that_cannot_be_written_is_a_warning(images, folder, digested, caplog, monkeypatch):
    settle()
    monkeypatch.setattr(digests, "SAVE_EVERY", 0.0)
    (folder / DIGESTS).mkdir(parents=True)  # a folder in its place
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images
    (record,) = caplog.records
    assert DIGESTS in record.message
    assert os.listdir(folder) == [DIGESTS]


def test_interrupted_call_keeps_its_digests(images, folder, digested, monkeypatch):
    settle()
    digest = digests.digest_file

    def stop(path: Path) -> str:
        if path == images[12]:
            raise KeyboardInterrupt
        return digest(path)

    monkeypatch.setattr(digests, "digest_file", stop)
    with pytest.raises(KeyboardInterrupt):
        digest_images(images, folder)
    monkeypatch.setattr(digests, "digest_file", digest)
    digested.clear()
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images[12:]


def test_digests_are_saved_during_the_call(images, folder, digested, monkeypatch):
    settle()
    monkeypatch.setattr(digests, "SAVE_EVERY", 0.0)
    digest = digests.digest_file
    kept: list[int] = []

    def count(path: Path) -> str:
        kept.append(sum(map(len, digests.load_digests(folder / DIGESTS).values())))
        return digest(path)

    monkeypatch.setattr(digests, "digest_file", count)
    digest_images(images, folder)
    assert kept == list(range(NUMBER))  # a process that is killed loses the last one


def test_concurrent_calls_return_the_same_digests(images, folder, digested):
    settle()
    halves = [images[:12], images[8:], images[::2], images[::-1]]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda paths: digest_images(paths, folder), 5 * halves))
    assert found == [blake2b(paths) for paths in 5 * halves]
    assert os.listdir(folder) == [DIGESTS]


def test_digests_of_any_file_name_are_kept(tmp_path, folder, digested):
    paths = [tmp_path / os.fsdecode(name) for name in (b"\xff.png", 'é\n\t".png'.encode())]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    settle()
    for _ in range(2):
        assert digest_images(paths, folder) == blake2b(paths)
    assert digested == paths
