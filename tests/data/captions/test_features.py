import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from attendgen.data.captions import features
from attendgen.data.captions.checks import find_broken
from attendgen.data.captions.digests import DIGESTS
from attendgen.data.captions.features import (
    FeatureCache,
    ImageEncoder,
    cache_features,
    find_missing,
    fingerprint,
    get_cache_key,
)
from attendgen.data.captions.images import open_image, to_pixels
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.utils.errors import UserError
from attendgen.utils.files import lock

SIZE, NUMBER = 16, 20


@pytest.fixture
def encoder() -> GridEncoder:
    return SmallCNN((4, 6), size=SIZE, freeze=True)


@torch.no_grad()
def compute(encoder: GridEncoder, images: list[Path]) -> torch.Tensor:
    device = encoder.mean.device
    rows = [encoder(to_pixels(open_image(path), encoder.size).unsqueeze(0).to(device)) for path in images]
    return torch.cat(rows).cpu()


def assert_half_equal(cached: torch.Tensor, exact: torch.Tensor) -> None:
    assert cached.dtype == torch.float16
    cached = cached.float()
    torch.testing.assert_close(cached, exact, rtol=2e-3, atol=2e-3)
    assert exact.std() > 0.02
    assert not torch.allclose(exact[0], exact[1], atol=1e-2)


@contextmanager
def count_images(encoder: GridEncoder, fail_at: int | None = None) -> Iterator[list[int]]:
    """Record the number of images of each call; the call that would exceed `fail_at` images raises."""
    seen: list[int] = []

    def watch(module: GridEncoder, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].any():  # not the black image that finds the shape
            if fail_at is not None and sum(seen) + len(inputs[0]) > fail_at:
                raise KeyboardInterrupt
            seen.append(len(inputs[0]))

    handle = encoder.register_forward_pre_hook(watch)
    yield seen
    handle.remove()


def list_caches(folder: Path) -> list[str]:
    """Return what a cache folder holds besides the digests of images."""
    return sorted(set(os.listdir(folder)) - {DIGESTS})


def test_grid_encoder_is_an_image_encoder(encoder):
    assert isinstance(encoder, ImageEncoder)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_cached_features_equal_computed_features(encoder, images, folder, batch_size):
    cache = cache_features(encoder, images, folder, batch_size)
    exact = compute(encoder, images)
    assert_half_equal(cache.take(range(NUMBER)), exact)
    assert_half_equal(cache.take([3, 0, 3]), exact[[3, 0, 3]])
    torch.testing.assert_close(cache[5], cache.take([5])[0].float(), rtol=0, atol=0)
    assert list_caches(folder) == [f"{get_cache_key(encoder, images)}.npy"]


def test_every_view_has_its_own_cache(encoder, images, folder):
    plain, mirrored = (cache_features(encoder, images, folder, view=view) for view in (0, 1))
    assert plain.path == folder / f"{get_cache_key(encoder, images)}.npy"  # view 0 has no suffix
    assert mirrored.path != plain.path
    for path in images:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    exact = compute(encoder, images)
    assert_half_equal(mirrored.take(range(NUMBER)), exact)
    assert not torch.allclose(plain.take(range(NUMBER)).float(), exact, atol=1e-2)


def test_second_call_reads_the_cache(encoder, images, folder):
    first = cache_features(encoder, images, folder)
    with count_images(encoder) as seen:
        second = cache_features(encoder, images, folder)
    assert seen == []
    assert second.path == first.path
    np.testing.assert_array_equal(second.rows, first.rows)


@pytest.mark.parametrize(("fail_at", "kept"), [(0, 0), (5, 0), (12, 8), (17, 16)])
def test_interrupted_call_resumes_at_its_saved_progress(encoder, images, folder, fail_at, kept):
    with count_images(encoder, fail_at) as seen, pytest.raises(KeyboardInterrupt):
        cache_features(encoder, images, folder, batch_size=1)
    assert sum(seen) == fail_at
    assert f"{get_cache_key(encoder, images)}.npy" not in os.listdir(folder)

    with count_images(encoder) as seen:
        cache = cache_features(encoder, images, folder, batch_size=3)
    assert sum(seen) == NUMBER - kept
    assert_half_equal(cache.take(range(NUMBER)), compute(encoder, images))
    assert list_caches(folder) == [cache.path.name]


def test_two_processes_fill_one_cache_once(encoder, images, folder):
    with count_images(encoder) as seen, ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cache_features(encoder, images, folder, batch_size=1), range(2))
    assert sum(seen) == NUMBER
    for cache in (first, second):
        assert_half_equal(cache.take(range(NUMBER)), compute(encoder, images))
    assert list_caches(folder) == [first.path.name]


def test_caches_do_not_wait_for_each_other(encoder, images, folder):
    folder.mkdir()
    other = folder / f"{get_cache_key(encoder, images, view=1)}.partial.npy"
    with lock(other), ThreadPoolExecutor(1) as pool:
        cache = pool.submit(cache_features, encoder, images, folder).result(timeout=60)
    assert len(cache.rows) == NUMBER


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_progress_without_its_features_is_ignored(encoder, images, folder, left):
    with count_images(encoder, 12), pytest.raises(KeyboardInterrupt):
        cache_features(encoder, images, folder, batch_size=1)
    (partial,) = folder.glob("*.partial.npy")
    partial.unlink()
    if left == "an empty file":
        partial.touch()
    with count_images(encoder) as seen:
        cache_features(encoder, images, folder)
    assert sum(seen) == NUMBER


def test_key_depends_on_encoder_and_images(encoder, images):
    keys = {get_cache_key(encoder, images)}
    assert get_cache_key(encoder, list(images)) in keys
    with torch.no_grad():
        encoder.backbone[0].weight[0, 0, 0, 0] += 1e-3
    keys.add(get_cache_key(encoder, images))
    encoder.backbone[1].running_mean += 1e-3  # a buffer
    keys.add(get_cache_key(encoder, images))
    encoder.size = 2 * SIZE
    keys.add(get_cache_key(encoder, images))
    encoder.name = "other"
    keys.add(get_cache_key(encoder, images))
    keys.add(get_cache_key(encoder, images[:-1]))
    keys.add(get_cache_key(encoder, images[::-1]))
    Image.new("RGB", (50, 50)).save(images[0])
    keys.add(get_cache_key(encoder, images))
    assert len(keys) == 8


def draw(folder: Path, color: str) -> list[Path]:
    """Save a bitmap of one color; the files of all colors have the same size."""
    folder.mkdir(parents=True)
    path = folder / "0001.bmp"
    Image.new("RGB", (8, 8), color).save(path)
    return [path]


def test_images_with_the_same_name_and_size_have_their_own_features(encoder, tmp_path, folder):
    red, blue = draw(tmp_path / "a", "red"), draw(tmp_path / "b", "blue")
    assert red[0].stat().st_size == blue[0].stat().st_size
    for images in (red, blue):
        features = cache_features(encoder, images, folder).take([0]).float()
        torch.testing.assert_close(features, compute(encoder, images), rtol=2e-3, atol=2e-3)
    assert not torch.allclose(compute(encoder, red), compute(encoder, blue), atol=1e-2)


def test_key_depends_on_content_and_name_but_not_on_the_folder(encoder, tmp_path):
    images, copies = draw(tmp_path / "a", "red"), draw(tmp_path / "b", "red")
    assert get_cache_key(encoder, images) == get_cache_key(encoder, copies)
    renamed = [copies[0].rename(tmp_path / "b" / "0002.bmp")]
    assert get_cache_key(encoder, images) != get_cache_key(encoder, renamed)  # crops depend on the name


def test_key_depends_on_the_preprocessing(encoder, images, monkeypatch):
    before = get_cache_key(encoder, images)
    monkeypatch.setattr(features, "PREPROCESSING", features.PREPROCESSING + 1)
    assert get_cache_key(encoder, images) != before


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_image_that_cannot_be_opened_is_refused(encoder, images, folder, kind):
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


def test_other_weights_have_another_cache(encoder, images, folder):
    cache_features(encoder, images, folder)
    with torch.no_grad():
        encoder.backbone[0].weight.mul_(-1)
    assert_half_equal(cache_features(encoder, images, folder).take(range(NUMBER)), compute(encoder, images))
    assert len(list_caches(folder)) == 2


def test_missing_images_are_refused_in_one_error(encoder, images, folder):
    gone = [images[2], images[7], images[0].parent / "elsewhere" / "x.png"]
    for path in gone[:2]:
        path.unlink()
    listed = [*images, gone[2]]
    assert find_missing(listed) == gone
    with pytest.raises(UserError, match=r"3 images missing: 02\.png, 07\.png, x\.png"):
        cache_features(encoder, listed, folder)
    assert not folder.exists()


def test_corrupt_image_is_refused_and_the_cache_stays_unfinished(encoder, images, folder):
    whole = images[13].read_bytes()
    images[13].write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(UserError) as caught:
        cache_features(encoder, images, folder, batch_size=1)
    assert str(caught.value).startswith(f"{images[13]}: corrupt")
    assert "\n" not in str(caught.value)
    assert f"{get_cache_key(encoder, images)}.npy" not in os.listdir(folder)

    images[13].write_bytes(whole)
    cache = cache_features(encoder, images, folder)
    assert_half_equal(cache.take(range(NUMBER)), compute(encoder, images))


def test_folder_that_cannot_be_written_is_refused(encoder, images, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cache: the feature cache cannot be written"):
        cache_features(encoder, images, tmp_path / "cache")


def test_cache_is_pickled_without_its_rows(encoder, images, folder):
    cache = cache_features(encoder, images, folder)
    assert cache.rows.shape[0] == NUMBER
    sent = pickle.dumps(cache)
    assert len(sent) < cache.rows.nbytes
    copy = pickle.loads(sent)
    assert isinstance(copy, FeatureCache)
    torch.testing.assert_close(copy[4], cache[4], rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_cache_is_made_again(encoder, images, folder, caplog, damage):
    path = cache_features(encoder, images, folder).path
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "other": b"features"}[damage])
    again = cache_features(encoder, images, folder)
    assert again.path.read_bytes() == whole
    assert "damaged" in caplog.text


def test_disk_without_space_is_refused_before_anything_is_computed(encoder, images, folder, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"the features of \d+ images need 0 MB, but 0 MB are free"):
        cache_features(encoder, images, folder)
    assert not list(folder.glob("*.partial.npy")) or not any(p.stat().st_size for p in folder.glob("*.partial.npy"))


DAMAGED = ["[", "[]", '{"done": -1, "of": 3}', '{"done": 9, "of": 3}', '{"done": 2, "of": 4}']


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_record_of_what_is_done_counts_nothing(tmp_path, damaged):
    path = tmp_path / "progress.json"
    assert features.read_progress(path, 3) == 0
    path.write_text('{"done": 2, "of": 3}')
    assert features.read_progress(path, 3) == 2
    path.write_text(damaged)
    assert features.read_progress(path, 3) == 0


def test_a_folder_and_a_link_to_nothing_are_left_out_as_broken(images, folder, tmp_path):
    for path in images[:2]:
        path.unlink()
    images[0].mkdir()
    images[1].symlink_to(tmp_path / "nowhere.png")
    images[2].write_bytes(b"no image")
    for cache in (None, folder):
        assert find_broken(images, cache) == images[:3]
