"""A character language model that reads its context in both directions and continues it.

attendgen train experiment=novels
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention_protocol import Attention
from attendgen.layers.decoder import Decoder
from attendgen.layers.lstm import read_padded
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.output import OutputLayer
from attendgen.layers.plain import use_plain_autograd
from attendgen.layers.state import Memory
from attendgen.utils.special_tokens import PAD


class ContextLanguageModel(nn.Module):
    """Bidirectional LSTM over a context, and a decoder that attends to it.

    Only the context, which lies wholly to the left of every predicted character, is read in both directions; the
    continuation is read forwards, so no prediction sees the character it must predict. The default decoder attends
    after the recurrence (Luong et al. 2015, 3), so training computes all characters of a window at once.

    Shapes: `batch` windows of `context` characters and `time` characters of continuation.

    Args:
        vocab_size: size of the vocabulary.
        attention: makes the attention layer from `query` and `memory` sizes.
        decoder: makes the decoder from the sizes of its `inputs`, `hidden` and `memory` and from `attention`; a
            `LuongDecoder` without input feeding unless given.
        embedding_dim, encoder_hidden, hidden: sizes of the character embeddings, of the encoder's state in each
            direction, and of the decoder's state.
        layers: of the default decoder.
        dropout: on the memory, on the decoder's features, and within the default decoder.
        context_len, chunk_len: characters that generation reads, and continues before it reads again.
        fast: use the fast paths; false follows the equations, see `attendgen.layers.use_plain_autograd`.
    """

    def __init__(
        self,
        vocab_size: int,
        attention: Callable[..., Attention],
        embedding_dim: int = 64,
        encoder_hidden: int = 128,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.0,
        context_len: int = 64,
        chunk_len: int = 192,
        decoder: Callable[..., Decoder] | None = None,
        fast: bool = True,
    ) -> None:
        super().__init__()
        memory = 2 * encoder_hidden
        self.hidden = hidden
        self.context_len = context_len
        self.chunk_len = chunk_len
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding_dim, encoder_hidden, batch_first=True, bidirectional=True)
        parallel = functools.partial(
            LuongDecoder, input_feeding=False, layers=layers, dropout=dropout, bias=True, hidden_dropout=dropout
        )
        make = parallel if decoder is None else decoder
        self.decoder = make(inputs=embedding_dim, hidden=hidden, memory=memory, attention=attention)
        self.bridge = nn.Linear(memory, 2 * self.decoder.layers * hidden) if self.decoder.layers else None
        self.output = OutputLayer(self.decoder.features, vocab_size)
        self.dropout = nn.Dropout(dropout)
        if not fast:
            use_plain_autograd(self)

    def encode(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, Any]:
        """Read right-padded contexts, of which all-<pad> ones are empty: memory and first state of the decoder."""
        memory, final = self._read_both_ways(context)
        if self.bridge is None:
            first = final.new_zeros(len(context), 2, 0, self.hidden)
        else:
            first = torch.tanh(self.bridge(final)).unflatten(-1, (2, self.decoder.layers, self.hidden))
        first = first * (context != PAD).any(dim=1).view(-1, 1, 1, 1)  # zero after an empty context
        return memory, self.decoder.initial_state(first[:, 0], first[:, 1], memory)

    def _read_both_ways(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, Float[Tensor, "batch final"]]:
        """Return the memory, and both directions' last states."""
        mask = context != PAD
        values, (hidden, _) = read_padded(self.encoder, self.embedding(context), mask)
        values = self.dropout(values)
        return Memory(self.decoder.keys(values), values, mask), torch.cat([hidden[-2], hidden[-1]], dim=-1)

    def continue_from(
        self, inputs: Int[Tensor, "rows time"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time source"], Any]:
        """Return logits after each of `inputs`, the attention weights, and the new state."""
        features, alphas, state = self.decoder(self.embedding(inputs), state, memory)
        return self.output(self.dropout(features)), alphas, state

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Any]:
        """Return log-probabilities of the next character after `tokens`, the attention weights, and the new state."""
        features, alpha, state = self.decoder.step(self.embedding(tokens), state, memory)
        return self.output(self.dropout(features)).float().log_softmax(dim=-1), alpha, state

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch time context"]]:
        """Teacher forcing: return logits of each next character given the true ones before it, and the attention."""
        memory, state = self.encode(context)
        logits, alphas, _ = self.continue_from(inputs, state, memory)
        return logits, alphas
