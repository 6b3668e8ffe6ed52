"""Grid features of a frozen encoder, computed once and read back through a memory map."""

import contextlib
import copy
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from attendgen.data.images import PREPROCESSING, look_at, open_image, to_pixels
from attendgen.errors import UserError
from attendgen.files import read_json, replacing, write_json

log = logging.getLogger(__name__)

DIGESTS = "image_digests.json"  # in the cache folder
SETTLED = 2.0  # seconds: a file system's clock is coarse, so two changes in quick succession can have the same time
SAVE_EVERY = 10.0  # seconds between two writes of the digests
DIGEST = re.compile("[0-9a-f]{32}")


@runtime_checkable
class ImageEncoder(Protocol):
    """A module that turns square pictures of `size` pixels into annotation vectors, such as `models.encoders` makes."""

    name: str
    size: int
    frozen: bool

    def __call__(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch regions dim"]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def to(self, *args: Any, **kwargs: Any) -> Any: ...

    def eval(self) -> Any: ...

    def modules(self) -> Iterator[nn.Module]: ...


def fingerprint(encoder: ImageEncoder) -> str:
    """A digest of an encoder's parameters and buffers, in order and by name."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        if tensor.ndim:  # a batch norm's step counter changes no output
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def signature(encoder: ImageEncoder) -> str:
    """What an encoder's features depend on: name, picture size, digest of its weights."""
    return f"{encoder.name}-{encoder.size}px-{fingerprint(encoder)[:12]}"


def cache_key(encoder: ImageEncoder, images: Sequence[Path], view: int = 0, folder: Path | None = None) -> str:
    """Return the stem of a cache file: the encoder's signature, a digest of the names and contents of images, the view.

    The names count because crops depend on them (`images.look_at`). `folder` is where the contents' digests are kept.

    Raises:
        UserError: an image cannot be read.
    """
    listing = hashlib.sha256(f"preprocessing {PREPROCESSING}".encode())
    for path, digest in zip(images, digest_images(images, folder), strict=True):
        listing.update(b"\0%b\0%b" % (os.fsencode(os.path.basename(path)), digest.encode()))
    end = f"-view{view}" if view else ""
    return f"{signature(encoder)}-{listing.hexdigest()[:12]}{end}"


def digest_images(images: Sequence[Path], folder: Path | None = None) -> list[str]:
    """Return the digest of the content of each file, and keep the digests in `folder` for the next call.

    A kept digest is used if the file's size, times and inode are unchanged. The time of the last status change (ctime)
    is among them: programs can set back the modification time of a file, but not this one.

    Raises:
        UserError: a file cannot be read.
    """
    store = folder / DIGESTS if folder else None
    kept = load_digests(store) if store else {}
    newest = time.time_ns() - int(SETTLED * 1e9)
    folders: dict[str, dict[str, str]] = {}
    digests: list[str] = []
    pending: list[tuple[int, str, bool]] = []  # index, stamp, whether the stamp would show a later change
    for index, path in enumerate(images):
        parent, name = os.path.split(path)
        if parent not in folders:
            folders[parent] = kept.setdefault(os.path.abspath(parent), {})
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        stamp = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} "
        entry = folders[parent].get(name, "")
        known = entry.startswith(stamp) and DIGEST.fullmatch(entry, len(stamp))
        digests.append(entry[len(stamp) :] if known else "")
        if not known:
            pending.append((index, stamp, stat.st_ctime_ns < newest))

    saved, changed = time.monotonic(), False
    try:
        for index, stamp, settled in tqdm(pending, desc="image digests", unit="image", delay=1, leave=False):
            digests[index] = digest_file(images[index])
            if settled:
                parent, name = os.path.split(images[index])
                folders[parent][name] = stamp + digests[index]
                changed = True
            if store and changed and time.monotonic() - saved > SAVE_EVERY:
                store = store if save_digests(store, kept) else None
                saved, changed = time.monotonic(), False
    finally:  # what is done survives an interruption
        if store and changed:
            save_digests(store, kept)
    return digests


def digest_file(path: Path) -> str:
    """Return the digest of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_digests(path: Path) -> dict[str, dict[str, str]]:
    """Return what a store holds, by folder and file name; what is missing or broken in it is left out."""
    try:
        stored = read_json(path)
    except (UserError, ValueError, RecursionError):
        return {}
    folders = stored.items() if isinstance(stored, dict) else ()
    return {
        folder: {name: entry for name, entry in entries.items() if isinstance(entry, str)}
        for folder, entries in folders
        if isinstance(entries, dict)
    }


def save_digests(path: Path, digests: dict[str, dict[str, str]]) -> bool:
    """Return whether a store could be written; if not, warn that its digests will be computed again."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(digests), encoding="utf-8")  # no indent, which takes several times as long
    except (OSError, UserError) as error:
        log.warning("%s: the images' digests are not kept and will be computed again (%s)", path, error)
        return False
    return True


class PixelData(Dataset[Tensor]):
    """One view of the pictures of a list of files, as square byte tensors."""

    def __init__(self, images: Sequence[Path], size: int, view: int = 0) -> None:
        self.images = images
        self.size = size
        self.view = view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        path = self.images[index]
        return to_pixels(look_at(open_image(path), self.view, path.name), self.size)


class FeatureCache:
    """Half-precision annotation vectors [images, regions, dim] on disk, one row an image."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_rows": None}  # workers map the file themselves

    @property
    def rows(self) -> np.ndarray:
        """The memory-mapped array."""
        if self._rows is None:
            self._rows = np.load(self.path, mmap_mode="r")
        return self._rows

    def __getitem__(self, index: int) -> Float[Tensor, "regions dim"]:
        return torch.from_numpy(self.rows[index].astype(np.float32))

    def means(self, each: int = 256) -> Float[Tensor, "images dim"]:
        """The mean annotation vector of every image, `each` of them read at a time."""
        starts = tqdm(range(0, len(self.rows), each), desc="mean features", leave=False)
        return torch.cat([torch.from_numpy(self.rows[i : i + each].mean(axis=1, dtype=np.float32)) for i in starts])

    def take(self, indices: Sequence[int]) -> Float[Tensor, "batch regions dim"]:
        """Several rows as one single-precision tensor."""
        return torch.from_numpy(self.rows[list(indices)].astype(np.float32))


def missing_images(images: Sequence[Path]) -> list[Path]:
    """The images that are not there."""
    folders: dict[str, set[str]] = {}
    missing = []
    for path in images:
        folder, name = os.path.split(path)  # many times as fast as the path's own parent and name
        if folder not in folders:
            folders[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        if name not in folders[folder]:
            missing.append(path)
    return missing


@torch.inference_mode()
def cached_features(
    encoder: ImageEncoder, images: Sequence[Path], folder: Path, batch_size: int = 32, workers: int = 0, view: int = 0
) -> FeatureCache:
    """Open the cache of the features of one view of these images, computing what is not there yet.

    The work done is noted every few batches, so an interrupted call goes on where it stopped.

    Raises:
        UserError: an image is missing or cannot be read, or the folder cannot be written.
    """
    missing = missing_images(images)
    if missing:
        raise UserError(f"{missing[0].parent}: {len(missing)} images missing: {', '.join(p.name for p in missing)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key = cache_key(encoder, images, view, folder)
        final, partial, progress = (folder / f"{key}{end}" for end in (".npy", ".partial.npy", ".progress.json"))
        if final.is_file():
            return FeatureCache(final)
        with locked(partial):  # two trainings that begin together fill one cache once
            if final.is_file():
                partial.unlink(missing_ok=True)
            else:
                fill(encoder, PixelData(images, encoder.size, view), final, partial, progress, batch_size, workers)
    except OSError as error:
        raise UserError(f"{folder}: the feature cache cannot be written: {error.strerror or error}") from error
    return FeatureCache(final)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file, made if it is not there, for this process alone; the lock goes with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def folded(encoder: ImageEncoder) -> ImageEncoder:
    """A copy of an encoder in evaluation mode, its batch norms folded into the convolutions before them.

    Its features are the same up to rounding. Only layers that follow each other in an `nn.Sequential` are folded.
    """
    copied = copy.deepcopy(encoder).eval()
    for layers in copied.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for index, (first, second) in enumerate(pairwise(layers)):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(first, second)
                layers[index + 1] = nn.Identity()
    return copied


def fill(
    encoder: ImageEncoder,
    pictures: PixelData,
    final: Path,
    partial: Path,
    progress: Path,
    batch_size: int,
    workers: int,
) -> None:
    """Compute all features into `partial`, from where `progress` says the last call stopped; rename it to `final`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = folded(encoder).to(device, memory_format=torch.channels_last)
    regions, dim = encoder(torch.zeros(1, 3, encoder.size, encoder.size, dtype=torch.uint8, device=device)).shape[1:]
    done = read_json(progress)["done"] if progress.is_file() and partial.stat().st_size else 0
    shape = (len(pictures), regions, dim)
    rows = np.lib.format.open_memmap(partial, "r+" if done else "w+", np.float16, shape if not done else None)
    log.info("caching %d x %s features (%.0f MB) in %s", *shape[:1], shape[1:], rows.nbytes / 1e6, final)
    loader = DataLoader(Subset(pictures, range(done, len(pictures))), batch_size, num_workers=workers)
    with tqdm(total=len(pictures), initial=done, unit="image", desc=f"{encoder.name} features") as bar:
        for number, pixels in enumerate(loader, 1):
            features = encoder(pixels.to(device, memory_format=torch.channels_last))
            rows[done : done + len(pixels)] = features.cpu().numpy()
            done += len(pixels)
            bar.update(len(pixels))
            if number % 8 == 0 or done == len(pictures):
                rows.flush()
                write_json(progress, {"done": done, "of": len(pictures)})
    del rows
    partial.replace(final)
    progress.unlink(missing_ok=True)
