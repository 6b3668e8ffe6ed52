"""A sequence-to-sequence model with attention.

attendgen train experiment=toy_chat
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.recurrence import AttentiveLSTM, LSTMState, Memory
from attendgen.vocabulary import PAD


class Seq2Seq(nn.Module):
    """LSTM encoder, attention decoder fed [embedding, context], output layer over [output, context].

    Shapes: `batch` sources of `source` symbols; `rows` = batch x hypotheses.

    Args:
        source_symbols, target_symbols: vocabulary sizes.
        embedding, hidden: sizes of the symbol vectors and of the encoder's and decoder's states.
        attention: makes the attention layer from `query` and `memory` sizes.
        bidirectional: read the source in both directions; the memory then has 2 x hidden numbers a position.
        layers: of the encoder.
        dropout: on embeddings, memory and the output layer's input.
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        attention: Callable[..., Attention],
        embedding: int = 64,
        hidden: int = 128,
        bidirectional: bool = False,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        memory = hidden * directions
        self.source_embedding = nn.Embedding(source_symbols, embedding, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_symbols, embedding, padding_idx=PAD)
        self.encoder = nn.LSTM(
            embedding,
            hidden,
            layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
        )
        # a one-way encoder of the same size hands its state over as it is
        self.bridge = nn.Linear(memory, 2 * hidden) if bidirectional else None
        self.decoder = AttentiveLSTM(embedding, hidden, memory, attention)
        self.output = nn.Linear(hidden + memory, target_symbols)
        self.dropout = nn.Dropout(dropout)

    def start(self, source: Int[Tensor, "batch source"]) -> tuple[Memory, LSTMState]:
        """Encode sources: the memory to attend to and the decoder's first state."""
        mask = source != PAD
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.source_embedding(source)), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (hidden, cell) = self.encoder(packed)
        values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=source.size(1))
        values = self.dropout(values)
        if self.bridge is None:
            state = LSTMState(hidden[-1], cell[-1])
        else:
            final = torch.cat([hidden[-2], hidden[-1]], dim=-1)
            state = LSTMState(*torch.tanh(self.bridge(final)).chunk(2, dim=-1))
        return Memory(self.decoder.attention.project(values), values, mask), state

    def step(
        self, tokens: Int[Tensor, " rows"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows source"], LSTMState]:
        """Log-probabilities of the next symbol after `tokens`, the attention used, and the new state."""
        gates = self.decoder.project(self.target_embedding(tokens))
        state, context, alpha = self.decoder.step(gates, state, memory)
        logits = self.output(torch.cat([state.hidden, context], dim=-1))
        return logits.float().log_softmax(dim=-1), alpha, state

    def forward(
        self, source: Int[Tensor, "batch source"], inputs: Int[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "batch target symbols"], Float[Tensor, "batch target source"]]:
        """Teacher forcing: logits of each next symbol given the true ones before it, and the attention."""
        memory, state = self.start(source)
        embedded = self.dropout(self.target_embedding(inputs))
        hidden, contexts, alphas = self.decoder(embedded, state, memory)
        return self.output(self.dropout(torch.cat([hidden, contexts], dim=-1))), alphas
