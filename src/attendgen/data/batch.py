"""Batches as named tuples of padded tensors; a mask is True where the data is real."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from attendgen.layers.encoder import Features
from attendgen.layers.tables import CellIds, Cells
from attendgen.utils.special_tokens import EOS, PAD, SOS


class StepTotals(NamedTuple):
    """Number of examples, sequences and target tokens of a training step, over devices and accumulated batches.

    A loss that divides its sums by these numbers does not depend on how the step is split into batches.
    """

    examples: Float[Tensor, ""]
    sequences: Float[Tensor, ""]
    tokens: Float[Tensor, ""]


class PairBatch(NamedTuple):
    """Sentence pairs: `inputs` begin with <sos>, `outputs` are the same one step later and end with <eos>."""

    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # hides tuple.index
    source: Int[Tensor, "batch source"]
    inputs: Int[Tensor, "batch target"]
    outputs: Int[Tensor, "batch target"]
    totals: StepTotals | None = None


class WindowBatch(NamedTuple):
    """Text windows: a context wholly to the left and its continuation, shifted as in `PairBatch`.

    `outputs` is <pad> where nothing is to be predicted. `inputs` begin with the context's last character, or <sos>.
    """

    context: Int[Tensor, "batch context"]
    inputs: Int[Tensor, "batch time"]
    outputs: Int[Tensor, "batch time"]
    totals: StepTotals | None = None


class StreamBatch(NamedTuple):
    """Chunks of text: row i continues the text of row i of the previous batch unless `reset[i]` is set.

    `inputs` are the characters before `outputs`, <sos> before a text's first; `outputs` as in `WindowBatch`.
    """

    inputs: Int[Tensor, "batch time"]
    outputs: Int[Tensor, "batch time"]
    reset: Bool[Tensor, " batch"]
    totals: StepTotals | None = None


class CaptionBatch(NamedTuple):
    """Images (bytes) or their cached features, each with the same number of captions, shifted as in `PairBatch`.

    An image with fewer captions has rows of <pad>.
    """

    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # hides tuple.index
    images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features
    inputs: Int[Tensor, "batch captions time"]
    outputs: Int[Tensor, "batch captions time"]
    totals: StepTotals | None = None


class TableBatch(NamedTuple):
    """Tables, each with one text, shifted as in `PairBatch`."""

    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # hides tuple.index
    cells: Cells
    inputs: Int[Tensor, "batch target"]
    outputs: Int[Tensor, "batch target"]
    totals: StepTotals | None = None


Batch = PairBatch | WindowBatch | StreamBatch | CaptionBatch | TableBatch


def count_targets(outputs: Int[Tensor, "batch *captions time"]) -> StepTotals:
    """Return the totals of one batch, from its outputs; a row of <pad> is not a sequence."""
    mask = is_token(outputs)
    counts = (mask.new_full((), len(outputs), dtype=torch.float), mask.any(dim=-1).sum(), mask.sum())
    return StepTotals(*(number.float() for number in counts))


def is_token(ids: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return where a tensor of ids is not <pad>."""
    return ids != PAD


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "batch length"]:
    """Return rows of ids as one tensor, padded on the right to the longest, at least one column wide."""
    length = max((len(row) for row in rows), default=0) or 1
    padded = torch.full((len(rows), length), PAD, dtype=torch.long)
    for line, row in zip(padded, rows, strict=True):
        if row:
            line[: len(row)] = torch.as_tensor(row, dtype=torch.long)
    return padded


def round_length(ids: Int[Tensor, "*rows length"], multiple: int) -> Int[Tensor, "*rows rounded"]:
    """Return ids padded on the right to a length that `multiple` divides."""
    return functional.pad(ids, (0, -ids.size(-1) % multiple), value=PAD)


def pad_cells(tables: Sequence[Sequence[CellIds]]) -> Cells:
    """Return the cells of tables, padded on the right to the table with the most."""
    return Cells(*(pad([[cell[field] for cell in table] for table in tables]) for field in range(len(Cells._fields))))


def shift_targets(
    rows: Sequence[Sequence[int] | None],
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Return decoder inputs <sos> w1 .. wn and outputs w1 .. wn <eos>; a row of None is all <pad>."""
    inputs = pad([[] if row is None else [SOS, *row] for row in rows])
    outputs = pad([[] if row is None else [*row, EOS] for row in rows])
    return inputs, outputs
