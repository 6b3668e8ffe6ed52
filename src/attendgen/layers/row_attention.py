"""Attention in two levels: over the rows of a table, and over the cells of each row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.additive_kernel import ExponentialKeys
from attendgen.layers.attention import AdditiveAttention, weigh_scores
from attendgen.layers.attention_protocol import Attention, can_defer_keys, has_scores, prepare_keys, score_queries
from attendgen.layers.deferred import DeferredSums
from attendgen.layers.devices import is_on_gpu
from attendgen.layers.half_precision import widen
from attendgen.utils.errors import UserError

SPARSE = 2  # times as many places as cells: with more a grid saves no time


class RowKeys(NamedTuple):
    """The keys of a table.

    Attributes:
        cells, rows: keys of the cells, in the places of the grid if there is one, and of the rows' mean vectors.
        row_of: the number of each cell's row, from 0; padding is counted to the last row, which is not real.
        is_row: False for the rows that a table does not have.
        grid: None if the cells are not in one.
    """

    cells: Float[Tensor, "batch places key"] | DeferredSums | ExponentialKeys
    rows: Float[Tensor, "batch rows row_key"] | DeferredSums | ExponentialKeys
    row_of: Int[Tensor, "batch cells"]
    is_row: Bool[Tensor, "batch rows"]
    grid: "Grid | None" = None


class Grid(NamedTuple):
    """The cells of a table in rows of equal length, so that a softmax over each row needs no index.

    Attributes:
        place_of: of each cell, row by row; that of padding is the first of the last row, which is not real.
        is_cell: False where a row is shorter.
    """

    place_of: Int[Tensor, "batch cells"]
    is_cell: Bool[Tensor, "batch rows length"]


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
        row = torch.ones(memory.shape[:2], dtype=torch.long, device=memory.device) if rows is None else rows
        means, is_row = average_rows(memory, row)
        keys, last = self.cells.keys(memory), is_row.size(1) - 1
        row_of = torch.where(row > 0, row - 1, last)
        grid = None if rows is None else arrange(row_of, last + 1)  # a mask may leave out more than the rows do
        if grid is not None:
            places = keys.new_zeros(len(keys), grid.is_cell[0].numel(), keys.size(2))
            keys = places.scatter(1, grid.place_of.unsqueeze(2).expand_as(keys), keys)
        return RowKeys(keys, self.rows.keys(means), row_of, is_row, grid)

    def defer_keys(self, keys: RowKeys, rows: int, time: int) -> RowKeys:
        """Return keys for a loop of so many steps, see `DotAttention.defer_keys`."""
        cells = self.cells.defer_keys(keys.cells, rows, time) if can_defer_keys(self.cells) else keys.cells
        means = self.rows.defer_keys(keys.rows, rows, time) if can_defer_keys(self.rows) else keys.rows
        return keys._replace(cells=cells, rows=means)

    def prepare_keys(self, keys: RowKeys) -> RowKeys:
        """Return keys for many steps without a gradient, see `attention_protocol.prepare_keys`."""
        cells, means = prepare_keys(self.cells, keys.cells), prepare_keys(self.rows, keys.rows)
        return keys._replace(cells=cells, rows=means)

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
        if keys.grid is None:
            within = weigh_within_rows(scores, keys.row_of, keys.is_row.size(1), mask)
            alpha = within * beta.gather(2, keys.row_of.unsqueeze(1).expand_as(scores)).to(within.dtype)
        else:
            alpha = weigh_grid(scores, beta, keys.grid)
        return alpha.to(scores.dtype) @ memory.to(scores.dtype), alpha


def average_rows(
    values: Float[Tensor, "batch cells dim"], rows: Int[Tensor, "batch cells"]
) -> tuple[Float[Tensor, "batch rows dim"], Bool[Tensor, "batch rows"]]:
    """Return the mean vector of each row's cells (Gong et al. 2019), and which rows a table has.

    The last row is not real; padding belongs to it.

    Args:
        rows: the row of each cell, from 1; 0 for padding.
    """
    # a GPU is not asked, which would make the host wait: no table has more rows than cells
    number = 1 + (rows.size(1) if is_on_gpu(rows) else int(rows.max()))
    row_of = torch.where(rows > 0, rows - 1, number - 1)
    sums = values.new_zeros(len(values), number, values.size(2))
    sums = sums.scatter_add(1, row_of.unsqueeze(2).expand_as(values), values)
    counts = torch.zeros(len(values), number, device=values.device)
    counts = counts.scatter_add(1, row_of, (rows > 0).to(counts.dtype))
    return sums / counts.clamp(min=1).unsqueeze(2).to(sums.dtype), counts > 0


def arrange(row_of: Int[Tensor, "batch cells"], number: int) -> Grid | None:
    """Return the grid of tables; None if most of its places would be empty.

    A GPU is not asked how long the rows are, which would make the host wait.

    Args:
        row_of: the number of each cell's row, from 0; that of padding is the last.
        number: of rows.
    """
    if is_on_gpu(row_of):
        return None
    is_cell = row_of < number - 1
    counts = row_of.new_zeros(len(row_of), number).scatter_add(1, row_of, is_cell.long())
    length = max(1, int(counts.max()))
    if number * length > SPARSE * row_of.size(1):
        return None
    numbers = torch.arange(row_of.size(1), device=row_of.device)
    order = row_of.argsort(dim=1, stable=True)
    starts = (counts.cumsum(dim=1) - counts).gather(1, row_of.gather(1, order))
    column_of = torch.empty_like(row_of).scatter(1, order, numbers - starts)
    place_of = row_of * length + torch.where(is_cell, column_of, 0)
    return Grid(place_of, numbers[:length] < counts.unsqueeze(2))


def weigh_grid(
    scores: Float[Tensor, "batch query places"], beta: Float[Tensor, "batch query rows"], grid: Grid
) -> Float[Tensor, "batch query cells"]:
    """Return beta_i softmax_i(scores) of the cells, in single precision; zeros for padding.

    Args:
        scores: of the places of a grid.
        beta: of the rows; zero for those that are not real.
    """
    scores = widen(scores).unflatten(2, grid.is_cell.shape[1:])
    within = scores.masked_fill(~grid.is_cell.unsqueeze(1), torch.finfo(scores.dtype).min).softmax(dim=-1)
    alpha = (within * beta.to(within.dtype).unsqueeze(3)).flatten(2)
    return alpha.gather(2, grid.place_of.unsqueeze(1).expand(-1, alpha.size(1), -1))


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
    scores = widen(scores)
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
