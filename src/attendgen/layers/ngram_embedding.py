"""Embeddings of the n-grams that end at each token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# a rolling polynomial hash: text is hashed to numbers below a prime, as digits to a base of its size
MODULUS = 2**31 - 1
BASE = 1_640_531_527


class NGramEmbedding(nn.Module):
    """One table of vectors for the n-grams of each length from 2 on; the row is a hash (Pagnoni et al. 2024, 3.2.1).

    The recurrence then receives the last characters as one vector and need not spend its weights on spelling. A lookup
    costs little, however large the tables are. N-grams that share a row differ by their vectors of other lengths.

    Args:
        dim: of the vectors.
        longest: length of the longest n-grams.
        rows: of each table.
        dropout: probability of dropping a vector, for each length of n-grams and each position.
    """

    def __init__(self, dim: int, longest: int, rows: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.history = longest - 1  # tokens before the current one that its n-grams hold
        self.tables = nn.ModuleList(nn.Embedding(rows, dim) for _ in range(2, longest + 1))
        self.dropout = nn.Dropout1d(dropout)  # of whole vectors
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, inputs: Int[Tensor, "rows time"], recent: Int[Tensor, "rows history"]
    ) -> tuple[Float[Tensor, "rows time dim"], Int[Tensor, "rows history"]]:
        """Return the summed vectors of the n-grams that end at each of `inputs`, and the tokens before the next input.

        Args:
            recent: the tokens before the first input, <pad> where there are none.
        """
        text = torch.cat([recent, inputs], dim=1)
        time = inputs.size(1)
        hashed = inputs + 1  # so that <pad> is a digit, too
        vectors = []
        for back, table in enumerate(self.tables, 1):
            before = text[:, self.history - back : self.history - back + time]
            hashed = (hashed * BASE + before + 1) % MODULUS
            assert isinstance(table, nn.Embedding)
            vectors.append(self.dropout(table(hashed % table.num_embeddings)))
        return torch.stack(vectors).sum(dim=0), text[:, time:]
