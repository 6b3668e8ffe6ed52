"""Features of images that another program has computed: a file per image, or one array with a list of names."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import read_text

SUFFIXES = (".npy", ".npz")
KEYS = ("features", "feat", "x")  # of the array in an .npz file that holds several
COCO_NUMBER = re.compile(r"(?:COCO_\w+_)?0*(\d+)")


def is_feature_file(path: Path) -> bool:
    """Return whether a file holds features by its name."""
    return path.suffix.lower() in SUFFIXES


def read_features(path: Path) -> Float[Tensor, "regions dim"]:
    """Return the features of one image, of any number of regions.

    An array of one vector is one region; one of rows and columns is read row by row. An `.npz` file holds one array, or
    names it as one of `KEYS`.

    Raises:
        UserError: the file is missing or broken, or holds something else.
    """
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                loaded = _choose_array(path, loaded)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_refusal(error)}") from error
    except UserError:
        raise
    except Exception as error:  # numpy reads the header as Python, and parts of a zip file in several ways
        raise UserError(f"{path}: not an array of numbers: {' '.join(str(error).split())}") from error
    return to_regions(path, loaded)


def _choose_array(path: Path, arrays: Any) -> np.ndarray:
    names = list(arrays.files)
    chosen = names if len(names) == 1 else [name for name in KEYS if name in names]
    if not chosen:
        raise UserError(f"{path}: arrays {', '.join(names[:5]) or 'missing'}; expected one of {', '.join(KEYS)}")
    found: np.ndarray = arrays[chosen[0]]
    return found


def to_regions(path: Path, array: np.ndarray) -> Float[Tensor, "regions dim"]:
    """Return an array of features as regions in single precision.

    Raises:
        UserError: it has no numbers, too many dimensions, or numbers that are not finite.
    """
    shape = array.shape[1:] if array.ndim == 4 and len(array) == 1 else array.shape
    if not 1 <= len(shape) <= 3 or 0 in shape or array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {array.dtype} of shape {array.shape}; expected numbers of shape [regions, dim]")
    with np.errstate(over="ignore"):
        regions = np.array(array, dtype=np.float32).reshape(-1, shape[-1])  # a copy: it may be mapped
    if not np.isfinite(regions).all():
        raise UserError(f"{path}: NaN, or numbers beyond single precision; compute these features again")
    return torch.from_numpy(regions)


class FeatureStore:
    """Finds the features of images.

    Args:
        source: a folder with a file per image, `NAME.npy` or `NAME.npz`; NAME is that of the image with or without its
            ending, or COCO's number. Or one `.npy` file of all images, beside which `.txt` lists their names.

    Raises:
        UserError: there is no such folder or file, or the list does not fit the array.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.array: np.ndarray | None = None
        if source.is_dir():
            self.places: dict[str, int | str] = {
                path.stem: path.name for path in sorted(source.iterdir()) if is_feature_file(path)
            }
        else:
            self.places = self._read_names()

    def _read_names(self) -> dict[str, int | str]:
        try:
            self.array = np.load(self.source, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # see `read_features`
            reason = describe_refusal(error) if isinstance(error, OSError) else " ".join(str(error).split())
            raise UserError(f"data.features={self.source}: not a folder, and not an array: {reason}") from error
        names = read_text(self.source.with_suffix(".txt")).split("\n")
        names = names[:-1] if names[-1] == "" else names
        rows = len(self.array) if isinstance(self.array, np.ndarray) and self.array.ndim else 0
        if rows != len(names):
            raise UserError(f"{self.source.with_suffix('.txt')}: {len(names)} names for {rows} rows of {self.source}")
        return {name.strip(): row for row, name in enumerate(names)}

    def find(self, image: Path) -> int | str | None:
        """Return where the features of an image are; None if there are none."""
        number = COCO_NUMBER.fullmatch(image.stem)
        keys = (image.name, image.stem, number[1] if number else "")
        return next((self.places[key] for key in keys if key in self.places), None)

    def find_missing(self, images: Sequence[Path]) -> list[Path]:
        """Return the images without features.

        Raises:
            UserError: two images have the same features, because they lie in different folders but have one name.
        """
        taken: dict[int | str, Path] = {}
        missing = []
        for path in images:
            place = self.find(path)
            if place is None:
                missing.append(path)
            elif taken.setdefault(place, path) != path:
                raise UserError(
                    f"data.features={self.source}: {taken[place]} and {path} have one name; give them others"
                )
        return missing

    def find_broken(self, images: Sequence[Path]) -> list[Path]:
        """Return the images whose features cannot be read."""
        broken = []
        for path in images:
            place = self.find(path)
            try:
                if place is not None:
                    self.load(place)
            except UserError:
                broken.append(path)
        return broken

    def load(self, place: int | str) -> Float[Tensor, "regions dim"]:
        """Return the features at a place that `find` has returned.

        Raises:
            UserError: the file is broken.
        """
        if isinstance(place, str):
            return read_features(self.source / place)
        assert self.array is not None
        return to_regions(self.source, self.array[place])


class StoredFeatures(Dataset[Tensor]):
    """The features of a list of images.

    Args:
        dim: length of a feature vector.

    Raises:
        UserError: the first image's features have another length.
    """

    def __init__(self, store: FeatureStore, images: Sequence[Path], dim: int) -> None:
        self.store = store
        self.places = [place for place in map(store.find, images) if place is not None]
        self.dim = dim
        if self.places:
            self[0]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Float[Tensor, "regions dim"]:
        features = self.store.load(self.places[index])
        require_dim(self.store.source / str(self.places[index]), features, self.dim)
        return features

    def means(self) -> Float[Tensor, "images dim"]:
        """Return the mean feature of every image."""
        return torch.stack([self[index].mean(dim=0) for index in range(len(self))])


def require_dim(name: str | Path, features: Float[Tensor, "regions dim"], dim: int) -> None:
    """Check the length of feature vectors.

    Raises:
        UserError: the model expects another.
    """
    if features.size(1) != dim:
        own = features.size(1)
        raise UserError(f"{name}: vectors of {own} numbers; the model expects {dim}; set model.encoder.dim={own}")
