"""Texts as arrays of ids, encoded once and memory-mapped from then on."""

import contextlib
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer, UInt32
from torch import Tensor

from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.saved import describe, find_source
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.arrays import is_whole, reserve_array
from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import lock, read_json, replacing, write_json

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[Integer[Tensor, " _tokens"]]]  # the texts of each split


def get_code_points(text: str) -> UInt32[np.ndarray, " characters"]:
    """Return a text's code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def count_characters(texts: Sequence[str]) -> Counter[str]:
    """Count each character."""
    total: Counter[str] = Counter()
    for text in texts:
        found = np.bincount(get_code_points(text))
        total.update({chr(code): int(found[code]) for code in found.nonzero()[0]})
    return total


def encode_text(text: str, vocabulary: VocabularyProtocol) -> Integer[Tensor, " tokens"]:
    """Return `vocabulary.encode` of a normalized text, with as few bytes as the vocabulary needs."""
    if not (isinstance(vocabulary, Vocabulary) and vocabulary.is_by_character):
        return torch.tensor(vocabulary.encode(text), dtype=torch.int32)
    code = get_code_points(text)
    table = np.full(int(code.max(initial=0)) + 1, -1 if vocabulary.unknown is None else vocabulary.unknown, np.int32)
    for token, index in vocabulary.ids.items():
        if len(token) == 1 and ord(token) < len(table):
            table[ord(token)] = index
    ids = table[code]
    size = np.uint8 if len(vocabulary) <= 256 else np.int32
    return torch.from_numpy(ids[ids >= 0].astype(size))


def read_cached(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file in a cache; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except UserError:
        content = None
    if not isinstance(content, dict):
        log.warning("%s: damaged; it is made again", path)
        return None
    return content


class CorpusCache:
    """Results computed from some files, kept in a folder; other files or other settings have other entries.

    Args:
        files: the texts; a changed size or modification time is another file.
        settings: what else the results depend on, as plain data.

    Raises:
        UserError: a file cannot be read.
    """

    def __init__(self, folder: str | Path, files: Sequence[Path], settings: Sequence[object]) -> None:
        self.folder = Path(folder)
        stats = []
        for path in files:
            try:
                stat = path.stat()
            except OSError as error:  # such as a link to a file that is gone
                raise UserError(f"{path}: {describe_refusal(error)}") from error
            stats.append((str(path.absolute()), stat.st_size, stat.st_mtime_ns))
        self.key = json.dumps([stats, list(settings)], default=str)

    def path(self, kind: str, *more: str) -> Path:
        """Return the path of an entry, without its suffix."""
        digest = hashlib.sha256("\n".join((self.key, *more)).encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / f"corpus-{kind}-{digest[:24]}"

    @contextlib.contextmanager
    def lock(self, path: Path) -> Iterator[None]:
        """Let one process at a time make an entry, so that the others find it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(path.with_suffix(".lock")):
            yield

    def counts(self, make: Callable[[], Counter[str]]) -> Counter[str]:
        """Return the counts of characters in the training texts."""
        path = self.path("counts").with_suffix(".json")
        with self.lock(path):
            counts = read_cached(path)
            if counts is None:
                counts = dict(make())
                write_json(path, counts)
        return Counter(counts)

    def parts(self, vocabulary: VocabularyProtocol, make: Callable[[], Parts]) -> Parts:
        """Return the texts of all splits as views of one memory-mapped file."""
        path = self.path("ids", json.dumps(describe(vocabulary)), find_source(vocabulary))
        lengths, ids = path.with_suffix(".json"), path.with_suffix(".npy")
        with self.lock(ids):
            sizes = read_cached(lengths)
            if sizes is None or not is_whole(ids, (sum(map(sum, sizes.values())),)):
                made = make()
                joined = np.concatenate([text.numpy() for texts in made.values() for text in texts])
                with replacing(ids) as temporary:
                    reserve_array(temporary, joined.dtype.type, joined.shape, "the encoded texts")[:] = joined
                sizes = {split: [len(text) for text in texts] for split, texts in made.items()}
                write_json(lengths, sizes)
        # copy on write: torch warns of a tensor that must not be written to
        whole = torch.from_numpy(np.load(ids, mmap_mode="c"))
        texts = iter(whole.split([size for split in sizes.values() for size in split]))
        return {split: [next(texts) for _ in split_sizes] for split, split_sizes in sizes.items()}
