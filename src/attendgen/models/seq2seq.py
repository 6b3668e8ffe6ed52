"""A sequence-to-sequence model with attention.

attendgen train experiment=toy_chat
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.decoders import Bahdanau, Decoder
from attendgen.layers.lstm import run_lstm
from attendgen.layers.recurrence import BidirectionalLSTM, Memory
from attendgen.layers.tying import tie
from attendgen.vocabulary import PAD


class Seq2Seq(nn.Module):
    """LSTM encoder, LSTM decoder with attention, output layer.

    Shapes: `batch` sources of `source` symbols; `rows` = batch x hypotheses.

    Args:
        source_symbols, target_symbols: vocabulary sizes.
        embedding, hidden: sizes of the symbol vectors and of the decoder's state.
        attention: makes the attention layer from `query` and `memory` sizes.
        decoder: makes the decoder from the sizes of its `inputs`, `hidden` and `memory` and from `attention`.
        encoder_hidden: size of the encoder's state in each direction; null is `hidden`.
        bidirectional: read the source in both directions; the memory then has 2 x encoder_hidden numbers a position.
        layers: of the encoder.
        dropout: on embeddings, memory, the output layer's input, and between the encoder's layers.
        tied: the target embeddings are the output layer's weights, too (Press and Wolf 2017); a layer reduces the
            decoder's features to their size.
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        attention: Callable[..., Attention],
        decoder: Callable[..., Decoder] = Bahdanau,
        embedding: int = 64,
        hidden: int = 128,
        encoder_hidden: int | None = None,
        bidirectional: bool = False,
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        encoder_hidden = encoder_hidden or hidden
        memory = encoder_hidden * (2 if bidirectional else 1)
        self.source_embedding = nn.Embedding(source_symbols, embedding, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_symbols, embedding, padding_idx=PAD)
        between = dropout if layers > 1 else 0.0
        self.encoder = (
            BidirectionalLSTM(embedding, encoder_hidden, layers, between)
            if bidirectional
            else nn.LSTM(embedding, encoder_hidden, layers, batch_first=True, dropout=between)
        )
        self.decoder = decoder(inputs=embedding, hidden=hidden, memory=memory, attention=attention)
        # a one-way encoder of the decoder's size hands its state over as it is
        as_it_is = not bidirectional and encoder_hidden == hidden and self.decoder.layers == 1
        self.bridge = None if as_it_is else nn.Linear(memory, 2 * self.decoder.layers * hidden)
        self.readout = nn.Linear(self.decoder.features, embedding) if tied else None
        self.output = nn.Linear(embedding if tied else self.decoder.features, target_symbols)
        if tied:
            tie(self.output, self.target_embedding)
        self.dropout = nn.Dropout(dropout)

    def start(self, source: Int[Tensor, "batch source"]) -> tuple[Memory, Any]:
        """Encode sources: the memory to attend to and the decoder's first state."""
        mask = source != PAD
        embedded = self.dropout(self.source_embedding(source))
        if isinstance(self.encoder, BidirectionalLSTM):
            values, read = self.encoder(embedded, mask)
        else:  # packed, for the cell state after the last real symbol
            lengths = mask.sum(dim=1).clamp(min=1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            outputs, final = run_lstm(self.encoder, packed)
            values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=source.size(1))
            read = final[0][-1]
        values = self.dropout(values)
        if self.bridge is None:
            hidden, cell = (part[-1].unsqueeze(1) for part in final)
        else:
            hidden, cell = torch.tanh(self.bridge(read)).unflatten(-1, (2, self.decoder.layers, -1)).unbind(1)
        return Memory(self.decoder.attention.project(values), values, mask), self.decoder.start(hidden, cell)

    def logits(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows symbols"]:
        """Scores of the next symbol from the decoder's features."""
        features = self.dropout(features)
        if self.readout is not None:
            features = torch.tanh(self.readout(features))
        return self.output(features)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows source"], Any]:
        """Log-probabilities of the next symbol after `tokens`, the attention used, and the new state."""
        features, alpha, state = self.decoder.step(self.target_embedding(tokens), state, memory)
        return self.logits(features).float().log_softmax(dim=-1), alpha, state

    def forward(
        self, source: Int[Tensor, "batch source"], inputs: Int[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "batch target symbols"], Float[Tensor, "batch target source"]]:
        """Teacher forcing: logits of each next symbol given the true ones before it, and the attention."""
        memory, state = self.start(source)
        features, alphas = self.decoder(self.dropout(self.target_embedding(inputs)), state, memory)
        return self.logits(features), alphas
