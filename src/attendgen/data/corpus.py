"""Texts as arrays of ids, encoded once and memory-mapped from then on."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, UInt32
from torch import Tensor

from attendgen.files import read_json, replacing, write_json
from attendgen.vocabulary import Vocabulary

Parts = Mapping[str, Sequence[Integer[Tensor, " _characters"]]]  # the texts of each split


def codes(text: str) -> UInt32[np.ndarray, " characters"]:
    """A text's code points."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def count(texts: Sequence[str]) -> Counter[str]:
    """How often each character occurs."""
    total: Counter[str] = Counter()
    for text in texts:
        found = np.bincount(codes(text))
        total.update({chr(code): int(found[code]) for code in found.nonzero()[0]})
    return total


def encode(text: str, vocabulary: Vocabulary) -> Integer[Tensor, " characters"]:
    """`vocabulary.encode` of a normalised text, by table, in as few bytes a character as the vocabulary allows."""
    code = codes(text)
    table = np.full(int(code.max(initial=0)) + 1, -1 if vocabulary.unknown is None else vocabulary.unknown, np.int32)
    for symbol, index in vocabulary.ids.items():
        if len(symbol) == 1 and ord(symbol) < len(table):
            table[ord(symbol)] = index
    ids = table[code]
    size = np.uint8 if len(vocabulary) <= 256 else np.int32
    return torch.from_numpy(ids[ids >= 0].astype(size))


class CorpusCache:
    """What has been computed of some files, kept in a folder; other files, or other settings, are kept apart.

    Args:
        files: the texts; one that changes its size or its time is another.
        settings: whatever else the result depends on, as plain data.
    """

    def __init__(self, folder: str | Path, files: Sequence[Path], settings: Sequence[object]) -> None:
        self.folder = Path(folder)
        stats = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        self.key = json.dumps([stats, list(settings)], default=str)

    def path(self, kind: str, *more: str) -> Path:
        """Where something is kept."""
        digest = hashlib.sha256("\n".join((self.key, *more)).encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / f"corpus-{kind}-{digest[:24]}"

    def counts(self, make: Callable[[], Counter[str]]) -> Counter[str]:
        """How often each character occurs in training."""
        path = self.path("counts").with_suffix(".json")
        if not path.is_file():
            write_json(path, make())
        return Counter(read_json(path))

    def parts(self, vocabulary: Vocabulary, make: Callable[[], Parts]) -> Parts:
        """The texts of all splits, as views of one mapped file."""
        path = self.path("ids", *vocabulary.symbols)
        lengths, ids = path.with_suffix(".json"), path.with_suffix(".npy")
        if not (lengths.is_file() and ids.is_file()):
            made = make()
            with replacing(ids) as temporary:
                np.save(temporary, np.concatenate([text.numpy() for texts in made.values() for text in texts]))
            write_json(lengths, {split: [len(text) for text in texts] for split, texts in made.items()})
        # copy on write: torch warns of a tensor that must not be written to
        whole = torch.from_numpy(np.load(ids, mmap_mode="c"))
        sizes: dict[str, list[int]] = read_json(lengths)
        texts = iter(whole.split([size for split in sizes.values() for size in split]))
        return {split: [next(texts) for _ in split_sizes] for split, split_sizes in sizes.items()}
