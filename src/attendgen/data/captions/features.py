"""Grid features of a frozen encoder, computed once and read back through a memory map."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from attendgen.data.captions.digests import digest_images
from attendgen.data.captions.encoding import choose_device, encode_pixels, make_image_loader, prepare_encoder
from attendgen.data.captions.images import PREPROCESSING, augment, open_image, to_pixels
from attendgen.layers.encoder import Features, ImageEncoder, average_regions, split_mask
from attendgen.utils.arrays import is_whole, reserve_array
from attendgen.utils.errors import UserError, describe_refusal, format_some
from attendgen.utils.files import lock, read_json, write_json
from attendgen.utils.progress import Progress, track

log = logging.getLogger(__name__)


def get_image_encoder(model: nn.Module) -> ImageEncoder | None:
    """Return a model's encoder of images, or None if it has none."""
    encoder = getattr(model, "encoder", None)
    return encoder if isinstance(encoder, ImageEncoder) else None


def fingerprint(encoder: ImageEncoder) -> str:
    """Return a digest of an encoder's parameters and buffers, in order and by name."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        if tensor.ndim:  # a batch norm's step counter changes no output
            digest.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def get_signature(encoder: ImageEncoder) -> str:
    """Return what an encoder's features depend on: name, image size, digest of its weights."""
    return f"{encoder.name}-{encoder.size}px-{fingerprint(encoder)[:12]}"


def get_cache_key(encoder: ImageEncoder, images: Sequence[Path], view: int = 0, folder: Path | None = None) -> str:
    """Return the stem of a cache file: the encoder's signature, a digest of the names and contents of images, the view.

    The names count because crops depend on them (`images.augment`). `folder` is where the contents' digests are kept.

    Raises:
        UserError: an image cannot be read.
    """
    listing = hashlib.sha256(f"preprocessing {PREPROCESSING}".encode())
    for path, digest in zip(images, digest_images(images, folder), strict=True):
        listing.update(b"\0%b\0%b" % (os.fsencode(os.path.basename(path)), digest.encode()))
    end = f"-view{view}" if view else ""
    return f"{get_signature(encoder)}-{listing.hexdigest()[:12]}{end}"


class PixelData(Dataset[Tensor]):
    """One view of a list of image files, as square byte tensors."""

    def __init__(self, images: Sequence[Path], size: int, view: int = 0) -> None:
        self.images = images
        self.size = size
        self.view = view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        path = self.images[index]
        try:
            image = open_image(path)
        except UserError as error:
            raise UserError(f"{error}; data.skip_bad=true leaves it out") from error
        return to_pixels(augment(image, self.view, path.name), self.size)


class FeatureCache:
    """Half-precision features [images, regions, dim] on disk, one row per image; a second file holds their mask."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: np.ndarray | None = None
        self._mask: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_rows": None, "_mask": None}  # workers map the files themselves

    @property
    def rows(self) -> np.ndarray:
        """Return the memory-mapped array."""
        if self._rows is None:
            self._rows = np.load(self.path, mmap_mode="r")
        return self._rows

    @property
    def mask(self) -> np.ndarray | None:
        """Return the memory-mapped mask; None if all images have the same number of regions."""
        if self._mask is None and get_mask_path(self.path).is_file():
            self._mask = np.load(get_mask_path(self.path), mmap_mode="r")
        return self._mask

    def __getitem__(self, index: int) -> Float[Tensor, "regions dim"] | Features:
        features = to_single(self.take([index]))
        return features[0] if isinstance(features, Tensor) else Features(*(part[0] for part in features))

    def means(self, each: int = 256) -> Float[Tensor, "images dim"]:
        """Return the mean feature of every image, `each` images read at a time."""
        starts = track(range(0, len(self.rows), each), "mean features", "batches")
        if self.mask is None:
            return torch.cat([torch.from_numpy(self.rows[i : i + each].mean(axis=1, dtype=np.float32)) for i in starts])
        ranges = (range(i, min(i + each, len(self.rows))) for i in starts)
        return torch.cat([average_regions(*split_mask(to_single(self.take(indices)))) for indices in ranges])

    def take(self, indices: Sequence[int]) -> Float[Tensor, "batch regions dim"] | Features:
        """Return rows as one half-precision tensor, with their mask if there is one."""
        values = torch.from_numpy(self.rows[list(indices)])
        return values if self.mask is None else Features(values, torch.from_numpy(self.mask[list(indices)]))


def take_from_views(
    caches: Sequence[FeatureCache], views: Sequence[int], indices: Sequence[int]
) -> Float[Tensor, "batch regions dim"] | Features:
    """Return the features of images, each from the view chosen for it."""
    if len(set(views)) == 1:
        return caches[views[0]].take(indices)
    rows = [caches[view].take([index]) for view, index in zip(views, indices, strict=True)]
    if isinstance(rows[0], Tensor):
        return torch.cat([row for row in rows if isinstance(row, Tensor)])
    return Features(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


def to_single(features: Tensor | Features) -> Tensor | Features:
    """Return features in single precision; pixels stay bytes."""
    if isinstance(features, Tensor):
        return features.float() if features.is_floating_point() else features
    return Features(features.values.float(), features.mask)


def get_mask_path(path: Path) -> Path:
    """Return the file of the mask of a feature cache."""
    return path.with_suffix(".mask.npy")


def find_missing(images: Sequence[Path]) -> list[Path]:
    """Return the images that do not exist."""
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
def cache_features(
    encoder: ImageEncoder,
    images: Sequence[Path],
    folder: Path,
    batch_size: int = 0,
    workers: int | str = "auto",
    view: int = 0,
) -> FeatureCache:
    """Open the cache of the features of one view of these images, computing what is not there yet.

    Progress is saved every few batches, so the next call after an interrupted one resumes.

    Args:
        batch_size, workers: see `make_image_loader`.

    Raises:
        UserError: an image is missing or cannot be read, or the folder cannot be written.
    """
    missing = find_missing(images)
    if missing:
        raise UserError(f"{missing[0].parent}: {len(missing)} images missing: {format_some([p.name for p in missing])}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key = get_cache_key(encoder, images, view, folder)
        final, partial, progress = (folder / f"{key}{end}" for end in (".npy", ".partial.npy", ".progress.json"))
        if is_cached(final, len(images)):
            return FeatureCache(final)
        with lock(partial):  # two trainings that begin together fill one cache once
            if is_cached(final, len(images)):
                partial.unlink(missing_ok=True)
            else:
                fill_cache(
                    encoder, PixelData(images, encoder.size, view), final, partial, progress, batch_size, workers
                )
    except OSError as error:
        raise UserError(f"{folder}: the feature cache cannot be written: {describe_refusal(error)}") from error
    return FeatureCache(final)


def is_cached(path: Path, images: int) -> bool:
    """Return whether the features of so many images are cached; a damaged file is removed, with a warning."""
    mask = get_mask_path(path)
    if is_whole(path, (images, None, None)) and (not mask.exists() or is_whole(mask, (images, None))):
        return True
    if path.exists():
        log.warning("%s: damaged; the features are computed again", path)
        path.unlink()
        mask.unlink(missing_ok=True)
    return False


def read_progress(path: Path, images: int) -> int:
    """Return how many of so many images an interrupted call has done; none if the file is missing or damaged."""
    with contextlib.suppress(UserError, OSError):
        found = read_json(path)
        done = found.get("done") if isinstance(found, dict) and found.get("of") == images else None
        if isinstance(done, int) and 0 <= done <= images:
            return done
    return 0


def fill_cache(
    encoder: ImageEncoder,
    images: PixelData,
    final: Path,
    partial: Path,
    progress: Path,
    batch_size: int,
    workers: int | str,
) -> None:
    """Compute all features into `partial`, from where `progress` says the last call stopped; rename it to `final`."""
    device = choose_device()
    encoder = prepare_encoder(encoder, device)
    probe, masked = split_mask(encoder(torch.zeros(1, 3, encoder.size, encoder.size, dtype=torch.uint8, device=device)))
    regions, dim = probe.shape[1:]
    shape = (len(images), regions, dim)
    done = read_progress(progress, len(images)) if is_whole(partial, shape) else 0
    what = f"the features of {len(images)} images"
    rows: np.memmap = np.load(partial, mmap_mode="r+") if done else reserve_array(partial, np.float16, shape, what)
    mask: np.memmap | None = None
    if masked is not None:
        path = get_mask_path(partial)
        mask = np.load(path, mmap_mode="r+") if done else reserve_array(path, np.bool_, shape[:2], what)
    log.info("caching %d x %s features (%.0f MB) in %s", *shape[:1], shape[1:], rows.nbytes / 1e6, final)
    loader = make_image_loader(Subset(images, range(done, len(images))), device, batch_size, workers)
    with Progress(f"{encoder.name} features", "images", len(images), done) as shown:
        for number, pixels in enumerate(loader, 1):
            features, real = encode_pixels(encoder, pixels, device)
            if features.size(1) != regions:
                raise UserError(
                    f"model.encoder: {regions} regions in one batch, {features.size(1)} in another; pad them to one "
                    "number and return a mask, or set data.cache=null"
                )
            rows[done : done + len(pixels)] = features.cpu().numpy()
            if mask is not None and real is not None:
                mask[done : done + len(pixels)] = real.cpu().numpy()
            done += len(pixels)
            shown.add(len(pixels))
            if number % 8 == 0 or done == len(images):
                rows.flush()
                if mask is not None:
                    mask.flush()
                write_json(progress, {"done": done, "of": len(images)})
    del rows
    if mask is not None:
        get_mask_path(partial).replace(get_mask_path(final))
    partial.replace(final)
    progress.unlink(missing_ok=True)
