"""Batches as named tuples of padded tensors; a mask is True where the data is real."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from attendgen.vocabulary import EOS, PAD, SOS


class Totals(NamedTuple):
    """How much a training step learns from, on all devices and in all batches that are accumulated for it.

    A loss that divides its sums by these counts is the same however the step is cut into batches.
    """

    examples: Float[Tensor, ""]
    sequences: Float[Tensor, ""]
    symbols: Float[Tensor, ""]


class PairBatch(NamedTuple):
    """Sentence pairs: `inputs` begin with <sos>, `outputs` are the same one step later and end with <eos>."""

    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # hides tuple.index
    source: Int[Tensor, "batch source"]
    inputs: Int[Tensor, "batch target"]
    outputs: Int[Tensor, "batch target"]
    totals: Totals | None = None


class WindowBatch(NamedTuple):
    """Text windows: a context wholly to the left and its continuation, shifted as in `PairBatch`.

    `outputs` is <pad> where nothing is to be predicted. `inputs` begin with the context's last character, or <sos>.
    """

    context: Int[Tensor, "batch context"]
    inputs: Int[Tensor, "batch time"]
    outputs: Int[Tensor, "batch time"]
    totals: Totals | None = None


class StreamBatch(NamedTuple):
    """Pieces of text that go on where the same rows of the batch before ended, but for `fresh` rows, which begin anew.

    `inputs` are the characters before `outputs`, <sos> before a text's first; `outputs` as in `WindowBatch`.
    """

    inputs: Int[Tensor, "batch time"]
    outputs: Int[Tensor, "batch time"]
    fresh: Bool[Tensor, " batch"]
    totals: Totals | None = None


class CaptionBatch(NamedTuple):
    """Pictures (bytes) or their cached annotations, each with the same number of captions, shifted as in `PairBatch`.

    A picture with fewer captions has rows of <pad>.
    """

    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # hides tuple.index
    images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    inputs: Int[Tensor, "batch captions time"]
    outputs: Int[Tensor, "batch captions time"]
    totals: Totals | None = None


Batch = PairBatch | WindowBatch | StreamBatch | CaptionBatch


def count(outputs: Int[Tensor, "batch *captions time"]) -> Totals:
    """The totals of one batch, from its outputs; a row of <pad> is no sequence."""
    written = real(outputs)
    counts = (written.new_tensor(len(outputs), dtype=torch.float), written.any(dim=-1).sum(), written.sum())
    return Totals(*(number.float() for number in counts))


def real(ids: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Where a tensor of ids is not <pad>."""
    return ids != PAD


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "batch length"]:
    """Rows of ids as one tensor, padded on the right to the longest, at least one column wide."""
    length = max((len(row) for row in rows), default=0) or 1
    padded = torch.full((len(rows), length), PAD, dtype=torch.long)
    for line, row in zip(padded, rows, strict=True):
        if row:
            line[: len(row)] = torch.as_tensor(row, dtype=torch.long)
    return padded


def shifted(rows: Sequence[Sequence[int] | None]) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Decoder inputs <sos> w1 .. wn and outputs w1 .. wn <eos>; a row of None is all <pad>."""
    inputs = pad([[] if row is None else [SOS, *row] for row in rows])
    outputs = pad([[] if row is None else [*row, EOS] for row in rows])
    return inputs, outputs
