"""Many small values in a few arrays.

Millions of Python objects take several times the memory of their contents, and forked workers copy every page on which
a reference count changes.
"""

import contextlib
import gc
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Int64


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Suspend the garbage collector while millions of objects without cycles are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _bounds(lengths: Iterable[int]) -> Int64[np.ndarray, " bounds"]:
    """Return where each part of a whole begins and, last, where the whole ends."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))])


Item = TypeVar("Item")


class Packed(Sequence[Item]):
    """A sequence whose items are made when they are indexed; `get` makes one."""

    def get(self, index: int) -> Item:
        """Return item `index`, from 0 to below the length."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        indices = range(len(self))[index]
        return self.get(indices) if isinstance(indices, int) else [self.get(i) for i in indices]


class PackedStrings(Packed[str]):
    """Strings, one after another in UTF-8."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self.bounds = _bounds(map(len, encoded))
        self.text = b"".join(encoded)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def get(self, index: int) -> str:
        """Return string `index`."""
        begin, end = self.bounds[index : index + 2]
        return self.text[begin:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for begin, end in pairwise(self.bounds.tolist()):
            yield self.text[begin:end].decode("utf-8", "surrogatepass")


class PackedIds(Packed[list[list[int]]]):
    """Lists of lists of ids: for each image the ids of its captions."""

    def __init__(self, groups: Iterable[Sequence[Sequence[int]]]) -> None:
        ids, lengths, counts = array("i"), array("q"), array("q")
        for group in groups:
            counts.append(len(group))
            for part in group:
                lengths.append(len(part))
                ids.extend(part)
        self.ids = np.array(ids)
        self.parts, self.bounds = _bounds(lengths), _bounds(counts)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def get(self, index: int) -> list[list[int]]:
        """Return group `index`."""
        first, last = self.bounds[index : index + 2].tolist()
        parts = self.parts[first : last + 1].tolist()
        return [self.ids[begin:end].tolist() for begin, end in pairwise(parts)]

    def max_lengths(self) -> list[int]:
        """Return the length of each group's longest list; groups are not empty."""
        return np.maximum.reduceat(np.diff(self.parts), self.bounds[:-1]).tolist() if len(self) else []
