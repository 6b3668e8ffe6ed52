"""Features that another program has computed: found, read, padded, trained on and captioned."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attendgen.data.captions.dataset import collate
from attendgen.data.captions.precomputed import FeatureStore, StoredFeatures, read_features
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from attendgen.layers.encoder import Features
from helpers import tiny_data
from helpers.errors import Command, assert_mistake, refusal
from helpers.runs import train

REGIONS = {color: 2 + number for number, color in enumerate(tiny_data.COLORS)}
DIM = 5


def make_features(folder: Path) -> dict[str, np.ndarray]:
    """Write the features of the images of the tiny Flickr8k; each has another number of regions."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = {color: rng.normal(size=(count, DIM)).astype(np.float32) for color, count in REGIONS.items()}
    for number, (color, array) in enumerate(arrays.items()):
        if number % 2:
            np.save(folder / f"{color}.npy", array)
        else:
            np.savez(folder / f"{color}.jpg.npz", feat=array, other=1)
    return arrays


def test_arrays_of_all_shapes_are_regions(tmp_path: Path) -> None:
    grid = np.arange(24.0).reshape(2, 3, 4)
    for name, array in {"grid": grid, "batch": grid[None], "flat": grid.reshape(6, 4)}.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert read_features(tmp_path / f"{name}.npy").tolist() == grid.reshape(6, 4).tolist()
    np.savez(tmp_path / "one.npz", anything=np.ones(4, dtype=np.float16))
    assert read_features(tmp_path / "one.npz").shape == (1, 4)


def test_files_that_are_no_features_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "number.npy", np.array(1.0))
    np.save(tmp_path / "nan.npy", np.array([1.0, np.nan]))
    np.save(tmp_path / "huge.npy", np.array([1.0, 1e300]))
    np.savez(tmp_path / "names.npz", a=np.ones(2), b=np.ones(2))
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "names.npz").read_bytes()[:40])
    for name in ["objects.npy", "number.npy", "nan.npy", "huge.npy", "names.npz", "text.npy", "cut.npz", "none.npy"]:
        assert name in refusal(read_features, tmp_path / name)


def test_features_are_found_by_the_names_of_images(tmp_path: Path) -> None:
    arrays = make_features(tmp_path / "features")
    np.save(tmp_path / "features" / "42.npy", np.ones((1, DIM)))
    store = FeatureStore(tmp_path / "features")
    images = [Path(f"Images/{color}.jpg") for color in arrays]
    assert store.find_missing([*images, Path("no.jpg"), Path("COCO_val2014_000000000042.jpg")]) == [Path("no.jpg")]
    for row, features in zip(arrays.values(), (StoredFeatures(store, images, DIM)[i] for i in range(6)), strict=True):
        np.testing.assert_array_equal(features.numpy(), row)
    assert "model.encoder.dim=5" in refusal(StoredFeatures, store, images, 7)


def test_one_array_has_a_list_of_names(tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(size=(3, 2, DIM)).astype(np.float32)
    np.save(tmp_path / "all.npy", array)
    (tmp_path / "all.txt").write_text("b.jpg\na.jpg\nc\n")
    stored = StoredFeatures(FeatureStore(tmp_path / "all.npy"), [Path("a.jpg"), Path("x/c.png")], DIM)
    np.testing.assert_array_equal(torch.stack([stored[0], stored[1]]).numpy(), array[1:])
    np.testing.assert_allclose(stored.means().numpy(), array[1:].mean(axis=1), rtol=1e-5)
    (tmp_path / "all.txt").write_text("b.jpg\n")
    assert "all.txt: 1 names for 3 rows" in refusal(FeatureStore, tmp_path / "all.npy")
    assert "data.features=" in refusal(FeatureStore, tmp_path / "none")


def test_batches_of_different_numbers_of_regions_are_masked() -> None:
    one, two = torch.randn(2, DIM), torch.randn(3, DIM)
    images = collate([(0, one, [[4]]), (1, two, [[5]])]).images
    assert isinstance(images, Features)
    torch.testing.assert_close(images.values[0, :2], one)
    assert images.mask.tolist() == [[True, True, False], [True] * 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that was trained on features; the images are gone."""
    folder = tmp_path_factory.mktemp("precomputed")
    make_features(folder / "features")
    root = tiny_data.flickr8k(folder / "flickr8k")
    for path in (root / "Images").iterdir():
        path.unlink()
    own = ["model/encoder=precomputed", f"model.encoder.dim={DIM}", f"data.features={folder / 'features'}"]
    with pytest.MonkeyPatch.context() as patch:
        small = [setting for setting in tiny_data.CAPTIONER if "model.encoder." not in setting]
        patch.setitem(tiny_data.SMALL, "flickr8k", small)
        return train(folder, "flickr8k_soft", "trainer=smoke", *own)


def test_captioner_trains_on_features_and_captions_them(attendgen: Command, run: Path, tmp_path: Path) -> None:
    features = run.parent / "features"
    outcome = attendgen("evaluate", run, "--split", "dev", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    captioner = load(run)
    assert isinstance(captioner, ImageCaptioner)
    found = list(captioner.caption_all([features / "red.jpg.npz", features / "green.npy"], max_length=4))
    assert [results[0].attention.shape[1] for results in found] == [3, 3], "padded to the larger number of regions"
    alone = captioner.caption(read_features(features / "red.jpg.npz"), max_length=4)[0]
    assert alone.text == found[0][0].text
    outcome = attendgen("caption", run, features, "--max-length", 4)
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == len(REGIONS)
    assert_mistake(attendgen("caption", run, tiny_data.image(tmp_path / "a.png", "red")), "a.png", ".npy")


def test_images_of_one_name_do_not_share_features(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, DIM)))
    store = FeatureStore(tmp_path)
    same = [Path("x/a.jpg"), Path("x/a.jpg"), Path("x/b.jpg")]
    assert store.find_missing(same) == [Path("x/b.jpg")]
    message = refusal(store.find_missing, [*same, Path("y/a.jpg")])
    assert message == f"data.features={tmp_path}: x/a.jpg and y/a.jpg have one name; give them others"


def test_broken_features_are_found(tmp_path: Path) -> None:
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.full((1, DIM), np.nan if name == "b" else 1.0))
    (tmp_path / "c.npy").write_bytes(b"")
    images = [Path(f"{name}.jpg") for name in "abcd"]
    assert FeatureStore(tmp_path).find_broken(images) == [Path("b.jpg"), Path("c.jpg")]
