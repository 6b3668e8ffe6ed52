"""Downloads that can be resumed, and are complete and verified or not there at all."""

import hashlib
import http.client
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import read_json, temporary_folder, write_json
from attendgen.utils.progress import Progress, track

LOCK = "downloads.lock.json"
PIECE = 2**20


def fetch(url: str, path: Path, size: int | None = None, digest: str | None = None) -> None:
    """Download a file to `path`, or check the one that is there.

    The received part is in `path` with `.part` appended until it is complete and has the right digest; the next call
    requests only the rest. Without a published digest, that of the first download is recorded in the folder's lock
    file, and any later download must have the same (trust on first use).

    Args:
        size: in bytes, where it is known.
        digest: "sha256:..." or "md5:...", where one is published.

    Raises:
        UserError: the download is interrupted (call again to resume), or the size or the digest is wrong.
    """
    lock = path.parent / LOCK
    known = read_json(lock) if lock.is_file() else {}
    noted = known.get(path.name, {})
    digest = digest or noted.get("digest")
    partial = path.with_name(f"{path.name}.part")
    if not path.is_file():
        receive(url, partial, size)
    file = path if path.is_file() else partial
    found = compute_digest(file, (digest or "sha256:").partition(":")[0])
    if digest not in (None, found):
        if file == partial:
            partial.unlink()
        raise UserError(f"{file}: {found}, but {url} should be {digest}; download it again, or ask who has changed it")
    if file == partial:
        partial.replace(path)
    if noted.get("digest") != found:
        write_json(lock, {**known, path.name: {"url": url, "size": path.stat().st_size, "digest": found}})


def receive(url: str, partial: Path, size: int | None = None) -> None:
    """Append the missing part of a file to `partial`.

    Raises:
        UserError: the server cannot be reached, ends the connection, or has a file of another size.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    start = partial.stat().st_size if partial.is_file() else 0
    if size is not None and start == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "attendgen", "Range": f"bytes={start}-"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # the whole file, not the requested part
                start = 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length else size
            if size is not None and total != size:
                raise UserError(f"{url}: {total} bytes, expected {size}; it has changed there, so get it elsewhere")
            with partial.open("ab" if start else "wb") as out:
                copy(answer, out, partial.name.removesuffix(".part"), start, total)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            if error.headers.get("Content-Range") != f"bytes */{start}":  # the local part is not the whole file
                partial.unlink()
                receive(url, partial, size)
            return
        raise UserError(f"{url}: {error.code} {error.reason}; check the address, or try again later") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise UserError(f"{url}: {getattr(error, 'reason', error)}; run this again to resume") from error
    arrived = partial.stat().st_size
    if total is not None and arrived != total:
        raise UserError(f"{url}: broke off after {arrived} of {total} bytes; run this again to resume")


def copy(source: io.BufferedIOBase, out: io.BufferedIOBase, name: str, start: int, total: int | None) -> None:
    """Copy a stream and show the progress."""
    with Progress(name, "bytes", total, start) as shown:
        while piece := source.read(PIECE):
            out.write(piece)
            shown.add(len(piece))


def compute_digest(path: Path, algorithm: str) -> str:
    """Return a file's digest with the name of the algorithm before it."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def unpack(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    """Extract files and folders from a zip archive into `folder`, each under its new name, complete or not at all.

    Args:
        members: the new name of each member.

    Raises:
        UserError: the archive is broken or lacks one of them.
    """
    try:
        with temporary_folder(folder) as temporary, zipfile.ZipFile(archive) as file:
            wanted = [
                name for name in file.namelist() if any(name == own or name.startswith(f"{own}/") for own in members)
            ]
            for name in track(wanted, archive.name, "files"):
                file.extract(name, temporary)
            for own, name in members.items():
                if not (temporary / own).exists():
                    raise UserError(f"{archive}: there is no {own} in it; remove it and download it again")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / own).replace(folder / name)
    except (zipfile.BadZipFile, OSError) as error:
        reason = describe_refusal(error) if isinstance(error, OSError) else f"{error}; remove it and download it again"
        raise UserError(f"{archive}: cannot be unpacked: {reason}") from error
