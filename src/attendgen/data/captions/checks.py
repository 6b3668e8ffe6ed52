"""Which images of a data set can be used."""

from collections.abc import Sequence
from pathlib import Path

from attendgen.data.captions.digests import digest_images
from attendgen.data.captions.images import open_image
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, write_json
from attendgen.utils.progress import track

READABLE = "readable_images.json"  # in the cache folder: digests of images that could be opened


def find_broken(images: Sequence[Path], folder: Path | None = None) -> list[Path]:
    """Return the images that cannot be opened.

    Args:
        folder: where the digests of readable images are kept, so that each content is opened once.
    """
    nothing = {path for path in images if not path.is_file()}  # folders, and links to nothing
    broken = [path for path in images if path in nothing]
    images = [path for path in images if path not in nothing]
    digests = digest_images(images, folder)
    store = folder / READABLE if folder else None
    known = _read_digests(store)
    before = len(known)
    for path, digest in track(list(zip(images, digests, strict=True)), "checking", "images"):
        if digest in known:
            continue
        try:
            open_image(path)
        except UserError:
            broken.append(path)
        else:
            known.add(digest)
    if store and len(known) > before:
        write_json(store, sorted(known))
    return broken


def _read_digests(store: Path | None) -> set[str]:
    """Return the digests that are kept; a broken file holds none."""
    if store is None or not store.is_file():
        return set()
    try:
        kept = read_json(store)
    except UserError:
        return set()
    return {digest for digest in kept if isinstance(digest, str)} if isinstance(kept, list) else set()
