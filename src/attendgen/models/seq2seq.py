"""A sequence-to-sequence model with attention.

attendgen train experiment=toy_chat
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention_protocol import Attention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.decoder import Decoder
from attendgen.layers.fast_paths import are_products, stands_for
from attendgen.layers.lstm import BidirectionalLSTM, read_padded, tie_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.plain import use_plain_autograd
from attendgen.layers.prepared import PreparedDecoder, can_prepare, has_usual_layers
from attendgen.layers.state import Memory
from attendgen.models.prepared import PreparedSeq2Seq
from attendgen.utils.special_tokens import PAD


class Seq2Seq(nn.Module):
    """LSTM encoder, LSTM decoder with attention, output layer.

    Shapes: `batch` sources of `source` tokens; `rows` = batch x hypotheses.

    Args:
        source_vocab_size, target_vocab_size: sizes of the vocabularies.
        attention: makes the attention layer from `query` and `memory` sizes.
        decoder: makes the decoder from the sizes of its `inputs`, `hidden` and `memory` and from `attention`.
        embedding_dim, hidden: sizes of the token embeddings and of the decoder's state.
        encoder_hidden: size of the encoder's state in each direction; `hidden` unless given.
        bidirectional: read the source in both directions; a memory vector then has 2 x encoder_hidden numbers.
        layers: of the encoder.
        dropout: on embeddings, memory, the output layer's input, and between the encoder's layers.
        tied: the output layer shares the weights of the target embedding (Press and Wolf 2017); a layer reduces the
            decoder's features to their size.
        fast: use the fast paths; false follows the equations, see `attendgen.layers.use_plain_autograd`.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        attention: Callable[..., Attention],
        decoder: Callable[..., Decoder] = BahdanauDecoder,
        embedding_dim: int = 64,
        hidden: int = 128,
        encoder_hidden: int | None = None,
        bidirectional: bool = False,
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
        fast: bool = True,
    ) -> None:
        super().__init__()
        encoder_hidden = encoder_hidden or hidden
        memory = encoder_hidden * (2 if bidirectional else 1)
        self.source_embedding = nn.Embedding(source_vocab_size, embedding_dim, padding_idx=PAD)
        self.target_embedding = nn.Embedding(target_vocab_size, embedding_dim, padding_idx=PAD)
        between = dropout if layers > 1 else 0.0
        self.encoder = (
            BidirectionalLSTM(embedding_dim, encoder_hidden, layers, between)
            if bidirectional
            else nn.LSTM(embedding_dim, encoder_hidden, layers, batch_first=True, dropout=between)
        )
        self.decoder = decoder(inputs=embedding_dim, hidden=hidden, memory=memory, attention=attention)
        # a one-way encoder of the decoder's size hands its state over as it is
        same_size = not bidirectional and encoder_hidden == hidden and self.decoder.layers == 1
        self.bridge = (
            None if same_size or not self.decoder.layers else nn.Linear(memory, 2 * self.decoder.layers * hidden)
        )
        self.hidden = hidden
        self.readout = nn.Linear(self.decoder.features, embedding_dim) if tied else None
        self.output = OutputLayer(embedding_dim if tied else self.decoder.features, target_vocab_size)
        if tied:
            tie_weights(self.output, self.target_embedding)
        self.dropout = nn.Dropout(dropout)
        if not fast:
            use_plain_autograd(self)

    def encode(self, source: Int[Tensor, "batch source"]) -> tuple[Memory, Any]:
        """Encode sources: return the memory to attend to and the decoder's first state."""
        mask = source != PAD
        embedded = self.dropout(self.source_embedding(source))
        if isinstance(self.encoder, BidirectionalLSTM):
            values, read = self.encoder(embedded, mask)
            cell = torch.empty(0)  # handed over through the bridge only
        else:
            values, (hiddens, cells) = read_padded(self.encoder, embedded, mask)
            read, cell = hiddens[-1], cells[-1]
        values = self.dropout(values)
        memory = Memory(self.decoder.keys(values), values, mask)
        return memory, self.decoder.initial_state(*self._bridge(read, cell), memory)

    def _bridge(
        self, read: Float[Tensor, "batch memory"], cell: Tensor
    ) -> tuple[Float[Tensor, "batch layers hidden"], Float[Tensor, "batch layers hidden"]]:
        """Return the first hidden states and cells of the decoder's layers from the encoder's last state."""
        if self.bridge is not None:
            first = torch.tanh(self.bridge(read)).unflatten(-1, (2, self.decoder.layers, self.hidden))
            return first[:, 0], first[:, 1]
        if self.decoder.layers:
            return read.unsqueeze(1), cell.unsqueeze(1)
        nothing = read.new_zeros(len(read), 0, self.hidden)
        return nothing, nothing

    def logits(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows vocab"]:
        """Return scores of the next token from the decoder's features."""
        features = self.dropout(features)
        if self.readout is not None:
            features = torch.tanh(self.readout(features))
        return self.output(features)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Any]:
        """Return log-probabilities of the next token after `tokens`, the attention weights, and the new state."""
        embedded = self.dropout(self.target_embedding(tokens))
        features, alpha, state = self.decoder.step(embedded, state, memory)
        return self.logits(features).float().log_softmax(dim=-1), alpha, state

    def prepare_decoding(self, memory: Memory, tokens: int) -> tuple[Any, Any]:
        """Return an object with this model's `step`, faster, and its memory; see `layers.prepared.prepare_decoding`."""
        is_usual = has_usual_layers(self, self.target_embedding, self.output, [self.dropout])
        is_usual = is_usual and are_products([self.readout], bias=True)
        is_own = not stands_for(self, "prepare_decoding", "step", "logits")
        if is_own or not is_usual or not can_prepare(self.decoder):
            return self, memory
        readout = None if self.readout is None else self.readout.weight[:, self.hidden :]
        prepared = PreparedSeq2Seq(self, PreparedDecoder(self.decoder, self.target_embedding, memory, tokens, readout))
        return prepared, prepared.decoder.memory

    def forward(
        self, source: Int[Tensor, "batch source"], inputs: Int[Tensor, "batch target"]
    ) -> tuple[Float[Tensor, "batch target vocab"], Float[Tensor, "batch target source"]]:
        """Teacher forcing: return logits of each next token given the true ones before it, and the attention."""
        memory, state = self.encode(source)
        features, alphas, _ = self.decoder(self.dropout(self.target_embedding(inputs)), state, memory)
        return self.logits(features), alphas
