import hashlib
import json
import os
import pickle
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attendgen.data.captions import features
from attendgen.data.captions.digests import DIGESTS, digest_images
from attendgen.data.captions.features import (
    FeatureCache,
    ImageEncoder,
    cache_features,
    cache_key,
    find_missing,
    fingerprint,
    folded,
)
from attendgen.data.captions.images import open_image, to_pixels
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.encoders.torchvision import TorchvisionEncoder
from attendgen.utils.errors import UserError
from attendgen.utils.files import locked

SIZE, NUMBER = 16, 20


@pytest.fixture
def encoder() -> GridEncoder:
    return SmallCNN((4, 6), size=SIZE, freeze=True)


@pytest.fixture
def images(tmp_path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [folder / f"{i:02}.png" for i in range(NUMBER)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


@torch.no_grad()
def direct(encoder: GridEncoder, images: list[Path]) -> torch.Tensor:
    device = encoder.mean.device
    rows = [encoder(to_pixels(open_image(path), encoder.size).unsqueeze(0).to(device)) for path in images]
    return torch.cat(rows).cpu()


def assert_half_equal(cached: torch.Tensor, exact: torch.Tensor) -> None:
    assert cached.dtype == torch.float32
    torch.testing.assert_close(cached, exact, rtol=2e-3, atol=2e-3)
    assert exact.std() > 0.02
    assert not torch.allclose(exact[0], exact[1], atol=1e-2)


@contextmanager
def watched(encoder: GridEncoder, fail_at: int | None = None) -> Iterator[list[int]]:
    """The number of pictures of each call; the call that would pass `fail_at` pictures raises."""
    seen: list[int] = []

    def watch(module: GridEncoder, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].any():  # not the black picture that asks for the shape
            if fail_at is not None and sum(seen) + len(inputs[0]) > fail_at:
                raise KeyboardInterrupt
            seen.append(len(inputs[0]))

    handle = encoder.register_forward_pre_hook(watch)
    yield seen
    handle.remove()


def caches(folder: Path) -> list[str]:
    """What a cache folder holds besides the images' digests."""
    return sorted(set(os.listdir(folder)) - {DIGESTS})


def test_a_grid_encoder_is_an_image_encoder(encoder):
    assert isinstance(encoder, ImageEncoder)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_cached_features_equal_computed_ones(encoder, images, folder, batch_size):
    cache = cache_features(encoder, images, folder, batch_size)
    exact = direct(encoder, images)
    assert_half_equal(cache.take(range(NUMBER)), exact)
    assert_half_equal(cache.take([3, 0, 3]), exact[[3, 0, 3]])
    torch.testing.assert_close(cache[5], cache.take([5])[0], rtol=0, atol=0)
    assert caches(folder) == [f"{cache_key(encoder, images)}.npy"]


def test_every_view_has_a_cache_of_its_own(encoder, images, folder):
    plain, mirrored = (cache_features(encoder, images, folder, view=view) for view in (0, 1))
    assert plain.path == folder / f"{cache_key(encoder, images)}.npy"  # as before there were views
    assert mirrored.path != plain.path
    for path in images:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    exact = direct(encoder, images)
    assert_half_equal(mirrored.take(range(NUMBER)), exact)
    assert not torch.allclose(plain.take(range(NUMBER)), exact, atol=1e-2)


def test_a_second_call_reads_what_is_there(encoder, images, folder):
    first = cache_features(encoder, images, folder)
    with watched(encoder) as seen:
        second = cache_features(encoder, images, folder)
    assert seen == []
    assert second.path == first.path
    np.testing.assert_array_equal(second.rows, first.rows)


@pytest.mark.parametrize(("fail_at", "kept"), [(0, 0), (5, 0), (12, 8), (17, 16)])
def test_an_interrupted_call_goes_on_where_it_noted(encoder, images, folder, fail_at, kept):
    with watched(encoder, fail_at) as seen, pytest.raises(KeyboardInterrupt):
        cache_features(encoder, images, folder, batch_size=1)
    assert sum(seen) == fail_at
    assert f"{cache_key(encoder, images)}.npy" not in os.listdir(folder)

    with watched(encoder) as seen:
        cache = cache_features(encoder, images, folder, batch_size=3)
    assert sum(seen) == NUMBER - kept
    assert_half_equal(cache.take(range(NUMBER)), direct(encoder, images))
    assert caches(folder) == [cache.path.name]


def test_trainings_that_begin_together_fill_one_cache_once(encoder, images, folder):
    with watched(encoder) as seen, ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cache_features(encoder, images, folder, batch_size=1), range(2))
    assert sum(seen) == NUMBER
    for cache in (first, second):
        assert_half_equal(cache.take(range(NUMBER)), direct(encoder, images))
    assert caches(folder) == [first.path.name]


def test_a_cache_does_not_wait_for_another(encoder, images, folder):
    folder.mkdir()
    other = folder / f"{cache_key(encoder, images, view=1)}.partial.npy"
    with locked(other), ThreadPoolExecutor(1) as pool:
        cache = pool.submit(cache_features, encoder, images, folder).result(timeout=60)
    assert len(cache.rows) == NUMBER


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_note_without_the_work_it_notes_is_not_believed(encoder, images, folder, left):
    with watched(encoder, 12), pytest.raises(KeyboardInterrupt):
        cache_features(encoder, images, folder, batch_size=1)
    (partial,) = folder.glob("*.partial.npy")
    partial.unlink()
    if left == "an empty file":
        partial.touch()
    with watched(encoder) as seen:
        cache_features(encoder, images, folder)
    assert sum(seen) == NUMBER


@pytest.mark.parametrize("layers", ["small_cnn", "resnet18"])
def test_folded_batch_norms_change_no_features(layers):
    made = SmallCNN((4, 6), size=64, depth=2) if layers == "small_cnn" else TorchvisionEncoder(layers, None, 64)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.uniform_(0.5, 2.0)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    copied = folded(made)
    with torch.inference_mode():
        torch.testing.assert_close(copied(pixels), made.eval()(pixels), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules()) or layers == "resnet18"
    for name, value in made.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_key_changes_with_what_the_features_depend_on(encoder, images):
    keys = {cache_key(encoder, images)}
    assert cache_key(encoder, list(images)) in keys
    with torch.no_grad():
        encoder.backbone[0].weight[0, 0, 0, 0] += 1e-3
    keys.add(cache_key(encoder, images))
    encoder.backbone[1].running_mean += 1e-3  # a buffer
    keys.add(cache_key(encoder, images))
    encoder.size = 2 * SIZE
    keys.add(cache_key(encoder, images))
    encoder.name = "other"
    keys.add(cache_key(encoder, images))
    keys.add(cache_key(encoder, images[:-1]))
    keys.add(cache_key(encoder, images[::-1]))
    Image.new("RGB", (50, 50)).save(images[0])
    keys.add(cache_key(encoder, images))
    assert len(keys) == 8


def draw(folder: Path, color: str) -> list[Path]:
    """A bitmap of one color; all colors' files are of one size."""
    folder.mkdir(parents=True)
    path = folder / "0001.bmp"
    Image.new("RGB", (8, 8), color).save(path)
    return [path]


def test_images_of_one_name_and_size_have_their_own_features(encoder, tmp_path, folder):
    red, blue = draw(tmp_path / "a", "red"), draw(tmp_path / "b", "blue")
    assert red[0].stat().st_size == blue[0].stat().st_size
    for images in (red, blue):
        features = cache_features(encoder, images, folder).take([0])
        torch.testing.assert_close(features, direct(encoder, images), rtol=2e-3, atol=2e-3)
    assert not torch.allclose(direct(encoder, red), direct(encoder, blue), atol=1e-2)


def test_the_key_is_of_content_and_name_wherever_the_images_lie(encoder, tmp_path):
    images, copies = draw(tmp_path / "a", "red"), draw(tmp_path / "b", "red")
    assert cache_key(encoder, images) == cache_key(encoder, copies)
    renamed = [copies[0].rename(tmp_path / "b" / "0002.bmp")]
    assert cache_key(encoder, images) != cache_key(encoder, renamed)  # crops depend on the name


def test_the_key_changes_with_the_preprocessing(encoder, images, monkeypatch):
    before = cache_key(encoder, images)
    monkeypatch.setattr(features, "PREPROCESSING", features.PREPROCESSING + 1)
    assert cache_key(encoder, images) != before


def blake2b(paths: list[Path]) -> list[str]:
    return [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in paths]


@pytest.fixture
def digested(monkeypatch) -> list[Path]:
    """The files whose content is digested; a file's times are believed soon after its last change."""
    seen: list[Path] = []
    digest = features.digest_file

    def watch(path: Path) -> str:
        seen.append(path)
        return digest(path)

    monkeypatch.setattr(features, "digest_file", watch)
    monkeypatch.setattr(features, "SETTLED", 0.02)
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
def test_an_image_overwritten_in_place_is_noticed(images, folder, digested, keep_times):
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


def test_a_digest_is_not_kept_soon_after_a_change(images, folder, digested, monkeypatch):
    monkeypatch.setattr(features, "SETTLED", 3600.0)  # the next change may happen within one tick of the clock
    for _ in range(2):
        assert digest_images(images, folder) == blake2b(images)
    assert digested == 2 * images


def test_folders_that_change_places_are_noticed(tmp_path, folder, digested):
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
def test_a_broken_store_is_computed_again(images, folder, digested, damage):
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


def test_a_store_that_cannot_be_written_costs_a_warning_alone(images, folder, digested, caplog, monkeypatch):
    settle()
    monkeypatch.setattr(features, "SAVE_EVERY", 0.0)
    (folder / DIGESTS).mkdir(parents=True)  # a folder in its place
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images
    (record,) = caplog.records
    assert DIGESTS in record.message
    assert os.listdir(folder) == [DIGESTS]


def test_interrupted_digests_go_on(images, folder, digested, monkeypatch):
    settle()
    digest = features.digest_file

    def stop(path: Path) -> str:
        if path == images[12]:
            raise KeyboardInterrupt
        return digest(path)

    monkeypatch.setattr(features, "digest_file", stop)
    with pytest.raises(KeyboardInterrupt):
        digest_images(images, folder)
    monkeypatch.setattr(features, "digest_file", digest)
    digested.clear()
    assert digest_images(images, folder) == blake2b(images)
    assert digested == images[12:]


def test_digests_are_written_on_the_way(images, folder, digested, monkeypatch):
    settle()
    monkeypatch.setattr(features, "SAVE_EVERY", 0.0)
    digest = features.digest_file
    kept: list[int] = []

    def count(path: Path) -> str:
        kept.append(sum(map(len, features.load_digests(folder / DIGESTS).values())))
        return digest(path)

    monkeypatch.setattr(features, "digest_file", count)
    digest_images(images, folder)
    assert kept == list(range(NUMBER))  # a process that is killed loses the last one


def test_digests_of_processes_at_once_are_right(images, folder, digested):
    settle()
    halves = [images[:12], images[8:], images[::2], images[::-1]]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda paths: digest_images(paths, folder), 5 * halves))
    assert found == [blake2b(paths) for paths in 5 * halves]
    assert os.listdir(folder) == [DIGESTS]


def test_any_name_can_be_kept(tmp_path, folder, digested):
    paths = [tmp_path / os.fsdecode(name) for name in (b"\xff.png", 'é\n\t".png'.encode())]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    settle()
    for _ in range(2):
        assert digest_images(paths, folder) == blake2b(paths)
    assert digested == paths


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_an_image_that_cannot_be_opened_is_named(encoder, images, folder, kind):
    images[5].unlink()
    images[5].mkdir() if kind == "folder" else images[5].symlink_to("nowhere")
    with pytest.raises(UserError) as caught:
        cache_features(encoder, images, folder)
    assert str(caught.value).startswith(f"{images[5]}: cannot be read: ")


def test_equal_weights_have_one_fingerprint(encoder):
    twin = SmallCNN((4, 6), size=SIZE)
    assert fingerprint(twin) != fingerprint(encoder)
    twin.load_state_dict(encoder.state_dict())
    assert fingerprint(twin) == fingerprint(encoder)
    assert fingerprint(twin.to(memory_format=torch.channels_last)) == fingerprint(encoder)


def test_other_weights_do_not_read_a_stale_cache(encoder, images, folder):
    cache_features(encoder, images, folder)
    with torch.no_grad():
        encoder.backbone[0].weight.mul_(-1)
    assert_half_equal(cache_features(encoder, images, folder).take(range(NUMBER)), direct(encoder, images))
    assert len(caches(folder)) == 2


def test_all_missing_images_are_in_one_error(encoder, images, folder):
    gone = [images[2], images[7], images[0].parent / "elsewhere" / "x.png"]
    for path in gone[:2]:
        path.unlink()
    listed = [*images, gone[2]]
    assert find_missing(listed) == gone
    with pytest.raises(UserError, match=r"3 images missing: 02\.png, 07\.png, x\.png"):
        cache_features(encoder, listed, folder)
    assert not folder.exists()


def test_a_corrupt_image_is_named_and_nothing_final_is_written(encoder, images, folder):
    whole = images[13].read_bytes()
    images[13].write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(UserError) as caught:
        cache_features(encoder, images, folder, batch_size=1)
    assert str(caught.value).startswith(f"{images[13]}: corrupt")
    assert "\n" not in str(caught.value)
    assert f"{cache_key(encoder, images)}.npy" not in os.listdir(folder)

    images[13].write_bytes(whole)
    cache = cache_features(encoder, images, folder)
    assert_half_equal(cache.take(range(NUMBER)), direct(encoder, images))


def test_a_folder_that_cannot_be_written_is_named(encoder, images, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cache: the feature cache cannot be written"):
        cache_features(encoder, images, tmp_path / "cache")


def test_a_cache_travels_to_workers_without_its_rows(encoder, images, folder):
    cache = cache_features(encoder, images, folder)
    assert cache.rows.shape[0] == NUMBER
    sent = pickle.dumps(cache)
    assert len(sent) < cache.rows.nbytes
    copy = pickle.loads(sent)
    assert isinstance(copy, FeatureCache)
    torch.testing.assert_close(copy[4], cache[4], rtol=0, atol=0)
