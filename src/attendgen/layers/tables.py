"""Tables: rows of named cells, and the padded ids of a batch of them."""

from typing import NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor

from attendgen.utils.special_tokens import PAD


class Cell(NamedTuple):
    """One fact: the value that something of a kind has.

    Attributes:
        kind: the type of the record, such as PTS, or the name of the slot.
        entity: of whom or what it is said; empty if the table is of one thing.
        value: as a text of one or more words.
    """

    kind: str
    entity: str
    value: str


class Row(NamedTuple):
    """The cells that belong together: those of a player or a team, or one slot.

    Attributes:
        name: of the entity or of the slot.
        side: a group of rows, such as "home" or "away"; empty if there are none.
    """

    name: str
    cells: tuple[Cell, ...]
    side: str = ""


Table = tuple[Row, ...]


class CellIds(NamedTuple):
    """The ids of a word of a cell, see `Cells`."""

    kind: int
    entity: int
    value: int
    place: int
    row: int
    copy: int


class Cells(NamedTuple):
    """The ids of the cells of a batch of tables, 0 = <pad>; a cell of several words is one column for each word.

    Attributes:
        kinds: the record types or slots; they alone are never 0 in a real cell, so `mask` is made from them.
        entities: 0 where a cell has none.
        values: the words.
        places: the number of a word in its value, from 1; those of different sides of a table are different ids.
        rows: the number of a cell's row in its table, from 1.
        copies: the ids of the words in the target vocabulary; 0 where it lacks the word.
    """

    kinds: Int[Tensor, "batch cells"]
    entities: Int[Tensor, "batch cells"]
    values: Int[Tensor, "batch cells"]
    places: Int[Tensor, "batch cells"]
    rows: Int[Tensor, "batch cells"]
    copies: Int[Tensor, "batch cells"]

    @property
    def mask(self) -> Bool[Tensor, "batch cells"]:
        """Where a cell is real."""
        return self.kinds != PAD
