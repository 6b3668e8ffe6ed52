"""Collecting what is decoded in a validation, and writing the attention of a whole split into one file."""

import tempfile
import zipfile
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from attendgen.decoding.protocol import Decoded
from attendgen.inference.result import Result, make_results
from attendgen.tasks.base import BaseTask
from attendgen.utils.files import replacing

FLOAT = np.dtype("<f4")


class Recorder:
    """Passes on the best output of each example of a validation, as a `Result`.

    Args:
        task: whose validation is recorded.
        keep: called with each example's number and its output.
    """

    def __init__(self, task: BaseTask[Any], keep: Callable[[int, Result], None]) -> None:
        self.task: Any = task
        self.keep = keep

    def __call__(self, batch: Any, decoded: Decoded) -> None:  # noqa: ANN401  # the batches of a family
        """Record a batch and its outputs."""
        best = Decoded(*(part[:, :1].cpu() for part in decoded))
        vocabulary = self.task.output_vocabulary
        for row, (index, source) in enumerate(zip(batch.index.tolist(), self.task.list_sources(batch), strict=True)):
            found = make_results(best, row, vocabulary, source)
            result = found[0] if found else _make_empty(source)
            self.keep(index, replace(result, text=self.task.restore(index, result.text)))


def _make_empty(source: list[str]) -> Result:
    """Return the output of an example for which decoding found nothing."""
    return Result("", [], 0.0, np.zeros(0, dtype=FLOAT), source, np.zeros((0, len(source)), dtype=FLOAT))


class _Example(NamedTuple):
    """Where an example's parts are in the lists of an `AttentionSpool`."""

    text: str
    score: float
    tokens: range
    sources: range
    attention: range


class AttentionSpool:
    """Attention weights, tokens and log-probabilities of many outputs, for one file without padding.

    The attention weights wait in a temporary file, so that a split may be larger than the memory.
    """

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `__exit__`
        self.written = 0
        self.numbers: dict[str, int] = {}  # of each token
        self.tokens, self.sources, self.log_probs = array("i"), array("i"), array("f")
        self.examples: dict[int, _Example] = {}

    def __enter__(self) -> "AttentionSpool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def add(self, index: int, result: Result) -> None:
        """Add the output of an example."""
        attention = np.ascontiguousarray(result.attention, dtype=FLOAT)
        self.file.write(attention.tobytes())
        self.examples[index] = _Example(
            result.text,
            result.score,
            self._extend(self.tokens, result.tokens),
            self._extend(self.sources, result.source),
            range(self.written, self.written + attention.size),
        )
        self.log_probs.extend(result.log_probs.tolist())
        self.written += attention.size

    def _extend(self, ids: "array[int]", tokens: Sequence[str]) -> range:
        begin = len(ids)
        ids.extend(self.numbers.setdefault(token, len(self.numbers)) for token in tokens)
        return range(begin, len(ids))

    def write(self, path: Path, inputs: Sequence[str | int]) -> None:
        """Write an `.npz` file of arrays without Python objects; see docs/guide/evaluation.md.

        Args:
            inputs: what names the input of each example, by its number.

        Raises:
            UserError: the file cannot be written.
        """
        order = sorted(self.examples)
        examples = [self.examples[index] for index in order]
        names = ("tokens", "sources", "attention")
        offsets = {name: np.cumsum([0, *(len(getattr(e, name)) for e in examples)]) for name in names}

        def gather(values: "array[Any]", name: str) -> np.ndarray:
            whole = np.asarray(values)
            parts = [getattr(example, name) for example in examples]
            return np.concatenate([whole[:0], *(whole[part.start : part.stop] for part in parts)])

        arrays = {
            "index": np.array(order, dtype=np.int64),
            "inputs": np.array([str(inputs[index]) for index in order], dtype=str),
            "outputs": np.array([example.text for example in examples], dtype=str),
            "scores": np.array([example.score for example in examples], dtype=FLOAT),
            "vocabulary": np.array(list(self.numbers), dtype=str),
            "tokens": gather(self.tokens, "tokens"),
            "log_probs": gather(self.log_probs, "tokens"),
            "sources": gather(self.sources, "sources"),
            "token_offsets": offsets["tokens"],
            "source_offsets": offsets["sources"],
            "attention_offsets": offsets["attention"],
        }
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
            with archive.open("attention.npy", "w", force_zip64=True) as member:
                header = {"descr": FLOAT.str, "fortran_order": False, "shape": (self.written,)}
                np.lib.format.write_array_header_1_0(member, header)
                for example in examples:
                    self.file.seek(example.attention.start * FLOAT.itemsize)
                    member.write(self.file.read(len(example.attention) * FLOAT.itemsize))
