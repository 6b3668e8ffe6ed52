"""The encoder of a table's cells."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.attention import weigh_scores
from attendgen.layers.lstm import BidirectionalLSTM
from attendgen.layers.tables import Cells
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD


class RecordEncoder(nn.Module):
    """r_j = relu(W [kind; entity; value; place] + b) (Yang et al. 2017; Wiseman et al. 2017).

    The order of the cells has no influence unless the encoder is recurrent.

    Args:
        kind_vocab_size, entity_vocab_size, value_vocab_size, place_vocab_size: sizes of the vocabularies.
        dim: size of a record's vector.
        embedding_dim: of each of the four embeddings.
        content_selection: multiply each record with a gate that sees the others, see `ContentSelection`.
        recurrent: read the records by a bidirectional LSTM, in the order of the cells.
        dropout: on the embeddings.

    Raises:
        UserError: the encoder is recurrent, and `dim` is odd.
    """

    def __init__(
        self,
        kind_vocab_size: int,
        entity_vocab_size: int,
        value_vocab_size: int,
        place_vocab_size: int,
        dim: int = 256,
        embedding_dim: int = 64,
        content_selection: bool = False,
        recurrent: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if recurrent and dim % 2:
            raise UserError(f"model.encoder.dim={dim}: an LSTM in both directions needs an even number")
        self.dim = dim
        sizes = (kind_vocab_size, entity_vocab_size, value_vocab_size, place_vocab_size)
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding_dim, padding_idx=PAD) for size in sizes)
        self.projection = nn.Linear(4 * embedding_dim, dim)
        self.selection = ContentSelection(dim) if content_selection else None
        self.reader = BidirectionalLSTM(dim, dim // 2) if recurrent else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, cells: Cells) -> tuple[Float[Tensor, "batch cells dim"], Bool[Tensor, "batch cells"]]:
        """Return a vector per cell, and True where a cell is real."""
        mask = cells.mask
        parts = (cells.kinds, cells.entities, cells.values, cells.places)
        embedded = [embedding(ids) for embedding, ids in zip(self.embeddings, parts, strict=True)]
        records = torch.relu(self.projection(self.dropout(torch.cat(embedded, dim=-1))))
        if self.selection is not None:
            records = self.selection(records, mask)
        if self.reader is not None:
            records, _ = self.reader(records, mask)
        return records, mask


class ContentSelection(nn.Module):
    """r_j sigmoid(W_g [c_j; r_j]), where c_j is attended among the other records (Puduppully et al. 2019, 3.1).

    c_j = sum_{k != j} alpha_jk r_k; alpha_jk = softmax_k(r_j W_a r_k). The scores are divided by sqrt(dim), which the
    paper does not do.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(2 * dim, dim)

    def forward(
        self, records: Float[Tensor, "batch cells dim"], mask: Bool[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch cells dim"]:
        """Return the records times their gates; a table's only record sees zeros."""
        scores = self.score(records) @ records.transpose(1, 2) / math.sqrt(records.size(2))
        others = mask.unsqueeze(1) & ~torch.eye(mask.size(1), dtype=torch.bool, device=mask.device)  # batch cells cells
        # each record is a batch of its own to the softmax, which takes one mask per batch
        alpha = weigh_scores(scores.flatten(0, 1).unsqueeze(1), others.flatten(0, 1)).view(scores.shape)
        context = alpha.to(records.dtype) @ records
        return records * torch.sigmoid(self.gate(torch.cat([context, records], dim=-1)))
