"""A character language model that reads its context in both directions and continues it.

attendgen train experiment=novels
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.lstm import run_lstm
from attendgen.layers.past import Past, PastAttention, ReaderState, blank_past
from attendgen.layers.recurrence import Memory
from attendgen.models.reading import step_lstm
from attendgen.vocabulary import PAD


class ContextLM(nn.Module):
    """Bidirectional LSTM over a context to the left, LSTM decoder that attends to it after each step.

    Only the context, which lies wholly to the left of every predicted character, is read in both directions; the
    continuation is read forwards alone, so no prediction sees the character it must predict. Attention comes after the
    recurrence (Luong et al. 2015, 3), so training runs over all characters of a window at once.

    Shapes: `batch` windows of `context` characters and `time` characters of continuation.

    Args:
        symbols: vocabulary size.
        attention: makes the attention layer from `query` and `memory` sizes.
        embedding, encoder, hidden: sizes of the character vectors, of the encoder's state in each direction, and of the
            decoder's state.
        layers: of the decoder.
        dropout: on the memory and on the decoder's output.
        weight_drop: share of the decoder's recurrent weights left out at each training step (Merity et al. 2018).
        reach: how many of its own states back one more attention head of the decoder looks; 0 is no such head.
        head: size of that head's queries, keys and values.
    """

    def __init__(
        self,
        symbols: int,
        attention: Callable[..., Attention],
        embedding: int = 64,
        encoder: int = 128,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        reach: int = 0,
        head: int = 128,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.embedding = nn.Embedding(symbols, embedding, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding, encoder, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * encoder, 2 * layers * hidden)
        self.decoder = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.attention = attention(query=hidden, memory=2 * encoder)
        self.combine = nn.Linear(hidden + 2 * encoder, hidden)
        self.output = nn.Linear(hidden, symbols)
        self.dropout = nn.Dropout(dropout)
        self.weight_drop = weight_drop
        self.past = PastAttention(hidden, head, reach) if reach else None

    def encode(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, Float[Tensor, "batch final"]]:
        """Read contexts padded on the right in both directions: memory, and both directions' last states."""
        mask = context != PAD
        lengths = mask.sum(dim=1)
        embedded = self.embedding(context)
        if bool((lengths == context.size(1)).all()):  # full windows, the rule in training, run faster unpacked
            values, (hidden, _) = run_lstm(self.encoder, embedded)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(
                embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            outputs, (hidden, _) = run_lstm(self.encoder, packed)
            values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=context.size(1))
        values = self.dropout(values)
        return Memory(self.attention.project(values), values, mask), torch.cat([hidden[-2], hidden[-1]], dim=-1)

    def start(self, context: Int[Tensor, "batch context"]) -> tuple[Memory, ReaderState]:
        """Read contexts padded on the right (an all-<pad> one is an empty one): memory and first decoder state."""
        memory, final = self.encode(context)
        state = torch.tanh(self.bridge(final)).unflatten(-1, (2, self.layers, -1))
        state = state * (context != PAD).any(dim=1).view(-1, 1, 1, 1)  # an empty context says nothing
        hidden, cell = state.unbind(1)
        return memory, ReaderState(hidden, cell, *blank_past(self.past, hidden), context[:, :0])

    def decode(
        self, inputs: Int[Tensor, "rows time"], state: ReaderState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time source"], ReaderState]:
        """Logits after each of `inputs`, the attention used, and the new state (rows layers hidden)."""
        before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        hidden, after = run_lstm(self.decoder, self.embedding(inputs), before, self.weight_drop)
        logits, alphas, past = self.predict(hidden, state.past, memory)
        last, cell = (part.transpose(0, 1) for part in after)
        recent = torch.cat([state.recent, inputs], dim=1)[:, inputs.size(1) :]
        return logits, alphas, ReaderState(last, cell, *past, recent)

    def predict(
        self, hidden: Float[Tensor, "rows time hidden"], past: Past, memory: Memory
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time source"], Past]:
        """Logits from the decoder's states, what they attended to in the memory, and the past after them."""
        if self.past is not None:
            own, _, past = self.past(hidden, past)
            hidden = hidden + own
        # the hypotheses of one input ask the same memory
        batch, time = memory.values.size(0), hidden.size(1)
        query = hidden.reshape(batch, -1, hidden.size(-1))
        contexts, alphas = self.attention(query, *memory)
        contexts = contexts.reshape(-1, time, contexts.size(-1)).to(hidden.dtype)
        combined = torch.tanh(self.combine(torch.cat([self.dropout(hidden), contexts], dim=-1)))
        return self.output(self.dropout(combined)), alphas.reshape(-1, time, alphas.size(-1)), past

    def step(
        self, tokens: Int[Tensor, " rows"], state: ReaderState, memory: Memory
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows source"], ReaderState]:
        """Log-probabilities of the next character after `tokens`, the attention used, and the new state."""
        hidden, cell = step_lstm(self.decoder, self.embedding(tokens), state.hidden, state.cell)
        logits, alphas, past = self.predict(hidden[:, -1:], state.past, memory)
        recent = torch.cat([state.recent, tokens.unsqueeze(1)], dim=1)[:, 1:]
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], ReaderState(hidden, cell, *past, recent)

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time symbols"], Float[Tensor, "batch time context"]]:
        """Teacher forcing: logits of each next character given the true ones before it, and the attention."""
        memory, state = self.start(context)
        logits, alphas, _ = self.decode(inputs, state, memory)
        return logits, alphas
