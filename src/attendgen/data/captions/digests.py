"""Digests of the contents of image files, kept in the feature cache's folder."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import read_json, replacing
from attendgen.utils.progress import track

log = logging.getLogger(__name__)

DIGESTS = "image_digests.json"  # in the cache folder


SETTLED = 2.0  # seconds: a file system's clock is coarse, so two changes in quick succession can have the same time


SAVE_EVERY = 10.0  # seconds between two writes of the digests


DIGEST = re.compile("[0-9a-f]{32}")


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
            raise UserError(f"{path}: cannot be read: {describe_refusal(error)}") from error
        stamp = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} "
        entry = folders[parent].get(name, "")
        known = entry.startswith(stamp) and DIGEST.fullmatch(entry, len(stamp))
        digests.append(entry[len(stamp) :] if known else "")
        if not known:
            pending.append((index, stamp, stat.st_ctime_ns < newest))

    saved, changed = time.monotonic(), False
    try:
        for index, stamp, settled in track(pending, "image digests", "images"):
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
        raise UserError(f"{path}: cannot be read: {describe_refusal(error)}") from error


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
