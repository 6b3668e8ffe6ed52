"""Vectors of the n-grams that end at each character."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# a rolling polynomial hash: text is hashed to numbers below a prime, as digits to a base of its size
MODULUS = 2**31 - 1
BASE = 1_640_531_527


class NGrams(nn.Module):
    """One table of vectors for the n-grams of each length from 2 on; an n-gram's row is its hash (Pagnoni et al. 2024,
    3.2.1).

    A recurrence that is handed what it has just read, as whole pieces of words, need not spend its weights on spelling.
    Looking up costs next to nothing, however large the tables are. N-grams that share a row are told apart by their
    vectors of other lengths, or not at all.

    Args:
        dim: of the vectors.
        longest: n-gram.
        rows: of each table.
        dropout: share of the vectors left out, each length of n-grams at each place for itself.
    """

    def __init__(self, dim: int, longest: int, rows: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.reach = longest - 1
        self.tables = nn.ModuleList(nn.Embedding(rows, dim) for _ in range(2, longest + 1))
        self.dropout = nn.Dropout1d(dropout)  # of whole vectors
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, inputs: Int[Tensor, "rows time"], recent: Int[Tensor, "rows reach"]
    ) -> tuple[Float[Tensor, "rows time dim"], Int[Tensor, "rows reach"]]:
        """The sum of the vectors of the n-grams that end at each of `inputs`, and the symbols that stand before the
        next input.

        Args:
            recent: the symbols before the first input, <pad> where there are none.
        """
        text = torch.cat([recent, inputs], dim=1)
        time = inputs.size(1)
        hashed = inputs + 1  # so that <pad> is a digit, too
        vectors = []
        for back, table in enumerate(self.tables, 1):
            before = text[:, self.reach - back : self.reach - back + time]
            hashed = (hashed * BASE + before + 1) % MODULUS
            assert isinstance(table, nn.Embedding)
            vectors.append(self.dropout(table(hashed % table.num_embeddings)))
        return torch.stack(vectors).sum(dim=0), text[:, time:]
