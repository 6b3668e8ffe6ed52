"""Attention in two levels: over the rows of a table, and over the cells of each row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention import AdditiveAttention, Attention, has_scores, weigh_scores
from attendgen.layers.devices import is_on_gpu
from attendgen.utils.errors import UserError


class RowKeys(NamedTuple):
    """The keys of a table.

    Attributes:
        cells, rows: keys of the cells, and of the rows' mean vectors.
        row_of: the number of each cell's row, from 0; padding is counted to row 0.
        is_row: False for the rows that a table does not have.
    """

    cells: Float[Tensor, "batch cells key"]
    rows: Float[Tensor, "batch rows row_key"]
    row_of: Int[Tensor, "batch cells"]
    is_row: Bool[Tensor, "batch rows"]


class RowAttention(nn.Module):
    """Attend to rows, and within each row to its cells: alpha_ij = beta_i a_ij (Rebuffel et al. 2020, 3.2).

    beta = softmax_i(score(q, mean of row i)); a_ij = softmax over the cells j of row i of score(q, cell ij). The
    weights of all cells sum to 1.

    Args:
        query, memory: sizes of queries and of the cells' vectors.
        cells: makes the layer that scores cells from `query` and `memory` sizes; its scores are used, not its context.
        rows: makes the layer that scores rows; the same kind as `cells` unless given.

    Raises:
        UserError: a layer has no scores.
    """

    uses_rows = True
    context_is_weighted_sum = True

    def __init__(
        self,
        query: int,
        memory: int,
        cells: Callable[..., Attention] = AdditiveAttention,
        rows: Callable[..., Attention] | None = None,
    ) -> None:
        super().__init__()
        self.cells: Any = cells(query=query, memory=memory)
        self.rows: Any = (rows or cells)(query=query, memory=memory)
        for name, layer in (("cells", self.cells), ("rows", self.rows)):
            if not has_scores(layer):
                raise UserError(
                    f"model.attention.{name}: {type(layer).__name__} does not offer its scores; use additive, dot or "
                    "general attention"
                )

    def keys(
        self, memory: Float[Tensor, "batch cells memory"], rows: Int[Tensor, "batch cells"] | None = None
    ) -> RowKeys:
        """Return the keys of cells and rows.

        Args:
            rows: the row of each cell, from 1, and 0 for padding; one row unless given.
        """
        if rows is None:
            rows = torch.ones(memory.shape[:2], dtype=torch.long, device=memory.device)
        means, is_row = average_rows(memory, rows)
        return RowKeys(self.cells.keys(memory), self.rows.keys(means), (rows - 1).clamp(min=0), is_row)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        keys: RowKeys,
        memory: Float[Tensor, "batch cells memory"],
        mask: Bool[Tensor, "batch cells"] | None = None,
    ) -> tuple[Float[Tensor, "batch query memory"], Float[Tensor, "batch query cells"]]:
        """Return the context of each query, and the weights of all cells."""
        scores = score_queries(self.cells, query, keys.cells)
        beta = weigh_scores(score_queries(self.rows, query, keys.rows), keys.is_row)
        within = weigh_within_rows(scores, keys.row_of, keys.rows.size(1), mask)
        alpha = within * beta.gather(2, keys.row_of.unsqueeze(1).expand_as(scores)).to(within.dtype)
        return alpha.to(scores.dtype) @ memory.to(scores.dtype), alpha


def score_queries(
    attention: Any, query: Float[Tensor, "batch query dim"], keys: Float[Tensor, "batch source key"]
) -> Float[Tensor, "batch query source"]:
    """Return the scores of a `ScoringAttention`."""
    weight = attention.query_weight
    return attention.score_keys(query if weight is None else functional.linear(query, weight), keys)


def average_rows(
    values: Float[Tensor, "batch cells dim"], rows: Int[Tensor, "batch cells"]
) -> tuple[Float[Tensor, "batch rows dim"], Bool[Tensor, "batch rows"]]:
    """Return the mean vector of each row's cells (Gong et al. 2019), and which rows a table has.

    Args:
        rows: the row of each cell, from 1; 0 for padding.
    """
    # a GPU is not asked, which would make the host wait: no table has more rows than cells
    number = rows.size(1) if is_on_gpu(rows) else max(1, int(rows.max()))
    # padding is added up in a row of its own, which is dropped
    sums = values.new_zeros(len(values), number + 1, values.size(2))
    sums = sums.scatter_add(1, rows.unsqueeze(2).expand_as(values), values)[:, 1:]
    counts = torch.zeros(len(values), number + 1, device=values.device)
    counts = counts.scatter_add(1, rows, torch.ones_like(rows, dtype=counts.dtype))[:, 1:]
    return sums / counts.clamp(min=1).unsqueeze(2).to(sums.dtype), counts > 0


def weigh_within_rows(
    scores: Float[Tensor, "batch query cells"],
    row_of: Int[Tensor, "batch cells"],
    number: int,
    mask: Bool[Tensor, "batch cells"] | None,
) -> Float[Tensor, "batch query cells"]:
    """Return softmax(scores) over the real cells of each row, in single precision.

    Args:
        row_of: the number of each cell's row, from 0.
        number: of rows.
    """
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    least = torch.finfo(scores.dtype).min
    padding = None if mask is None else ~mask.unsqueeze(1)
    scores = scores if padding is None else scores.masked_fill(padding, least)
    where = row_of.unsqueeze(1).expand_as(scores)
    per_row = (*scores.shape[:2], number)
    greatest = scores.new_full(per_row, least).scatter_reduce(2, where, scores.detach(), "amax")
    shares = (scores - greatest.gather(2, where)).exp()
    shares = shares if padding is None else shares.masked_fill(padding, 0.0)
    totals = scores.new_zeros(per_row).scatter_add(2, where, shares)
    return shares / totals.gather(2, where).clamp_min(torch.finfo(scores.dtype).tiny)
