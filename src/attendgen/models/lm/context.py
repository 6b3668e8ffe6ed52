"""A character language model that reads its context in both directions and continues it.

attendgen train experiment=novels
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.lstm import read_lstm, run_lstm, step_lstm
from attendgen.layers.state import LSTMState, Memory
from attendgen.utils.special_tokens import PAD


class ContextLanguageModel(nn.Module):
    """Bidirectional LSTM over a context, and an LSTM decoder that attends to it after each step.

    Only the context, which lies wholly to the left of every predicted character, is read in both directions; the
    continuation is read forwards, so no prediction sees the character it must predict. Attention comes after the
    recurrence (Luong et al. 2015, 3), so training computes all characters of a window at once.

    Shapes: `batch` windows of `context` characters and `time` characters of continuation.

    Args:
        vocab_size: size of the vocabulary.
        attention: makes the attention layer from `query` and `memory` sizes.
        embedding_dim, encoder_hidden, hidden: sizes of the character embeddings, of the encoder's state in each
            direction, and of the decoder's state.
        layers: of the decoder.
        dropout: on the memory, between the decoder's layers, and on the decoder's output.
        context_len, chunk_len: characters that generation reads, and continues before it reads again.
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
    ) -> None:
        super().__init__()
        memory = 2 * encoder_hidden
        self.layers = layers
        self.context_len = context_len
        self.chunk_len = chunk_len
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding_dim, encoder_hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(memory, 2 * layers * hidden)
        self.decoder = nn.LSTM(embedding_dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.attention = attention(query=hidden, memory=memory)
        self.combine = nn.Linear(hidden + memory, hidden)
        self.output = nn.Linear(hidden, vocab_size)
        self.dropout = nn.Dropout(dropout)

    def encode(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, LSTMState]:
        """Read right-padded contexts, of which all-<pad> ones are empty: memory and first state of the decoder."""
        memory, final = self._read_both_ways(context)
        state = torch.tanh(self.bridge(final)).unflatten(-1, (2, self.layers, -1))
        state = state * (context != PAD).any(dim=1).view(-1, 1, 1, 1)  # zero after an empty context
        return memory, LSTMState(*state.unbind(1))

    def _read_both_ways(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, Float[Tensor, "batch final"]]:
        """Return the memory, and both directions' last states."""
        mask = context != PAD
        lengths = mask.sum(dim=1)
        embedded = self.embedding(context)
        if bool((lengths == context.size(1)).all()):  # full windows, as nearly all in training, run faster unpacked
            values, (hidden, _) = run_lstm(self.encoder, embedded)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, (hidden, _) = run_lstm(self.encoder, packed)
            values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=context.size(1))
        values = self.dropout(values)
        return Memory(self.attention.keys(values), values, mask), torch.cat([hidden[-2], hidden[-1]], dim=-1)

    def predict(
        self, hidden: Float[Tensor, "rows time hidden"], memory: Memory
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time source"]]:
        """Return logits from the decoder's states, and their attention weights."""
        # the hypotheses of one input share its memory
        batch, time = memory.values.size(0), hidden.size(1)
        query = hidden.reshape(batch, -1, hidden.size(-1))
        contexts, alphas = self.attention(query, *memory)
        contexts = contexts.reshape(-1, time, contexts.size(-1)).to(hidden.dtype)
        combined = torch.tanh(self.combine(torch.cat([self.dropout(hidden), contexts], dim=-1)))
        return self.output(self.dropout(combined)), alphas.reshape(-1, time, alphas.size(-1))

    def continue_from(
        self, inputs: Int[Tensor, "rows time"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time source"], LSTMState]:
        """Return logits after each of `inputs`, the attention weights, and the new state."""
        hidden, state = read_lstm(self.decoder, self.embedding(inputs), state)
        return *self.predict(hidden, memory), state

    def step(
        self, tokens: Int[Tensor, " rows"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], LSTMState]:
        """Return log-probabilities of the next character after `tokens`, the attention weights, and the new state."""
        state = step_lstm(self.decoder, self.embedding(tokens), state)
        logits, alphas = self.predict(state.hidden[:, -1:], memory)
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], state

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch time context"]]:
        """Teacher forcing: return logits of each next character given the true ones before it, and the attention."""
        memory, state = self.encode(context)
        logits, alphas, _ = self.continue_from(inputs, state, memory)
        return logits, alphas
