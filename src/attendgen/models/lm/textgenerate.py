"""The character model of the project Text-Generation (https://github.com/ApurbaSengupta/Text-Generation).

attendgen import textgenerate FILE --out RUN
attendgen train experiment=novels_textgenerate
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.lstm import run_lstm
from attendgen.layers.lstm_layers import get_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.state import EmptyMemory, LSTMState
from attendgen.models.lm.common import StatefulLanguageModel


class TextGenerateLanguageModel(StatefulLanguageModel):
    """Embedding, bidirectional LSTM, attention over its output, two linear layers.

    Text-Generation feeds one character per call and keeps the state of both directions. Over one character neither
    direction sees anything to the right: a layer is two LSTMs that both run forwards in time, concatenated before the
    next layer, and the softmax of the attention over one position is 1. So whole texts are computed at once here, layer
    by layer, with the same result.

    The state is an `LSTMState` of `rows stacks hidden`: the layers' forward and backward LSTMs in torch's order.

    Args:
        vocab_size: size of the vocabulary.
        hidden: size of the embedding, of each direction's state, and of the layer before the output.
        layers: of the LSTM.
    """

    def __init__(self, vocab_size: int, hidden: int = 100, layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, hidden)
        self.out = OutputLayer(hidden, vocab_size)

    def initial_state(self, batch: int) -> LSTMState:
        """Return the state before anything is read: zeros."""
        zero = self.out.weight.new_zeros(batch, 2 * self.lstm.num_layers, self.lstm.hidden_size)
        return LSTMState(zero, zero)

    def read(
        self, inputs: Int[Tensor, "rows time"], state: LSTMState, mask: Bool[Tensor, "rows time"] | None = None
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time 0"], LSTMState]:
        """Return logits after each of `inputs`, no attention weights, and the new state."""
        values = self.encoder(inputs)
        after: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.lstm.num_layers):
            directions = []
            for stack in (2 * layer, 2 * layer + 1):
                hidden, cell = (part[:, stack].unsqueeze(0).contiguous() for part in state)
                weights = get_weights(self.lstm, stack // 2, stack % 2)
                output, (hidden, cell) = run_lstm(self.lstm, values, (hidden, cell), weights, mask)
                directions.append(output)
                after.append((hidden[0], cell[0]))
            values = torch.cat(directions, dim=-1)
        hidden, cell = (torch.stack(parts, dim=1) for parts in zip(*after, strict=True))
        return self.out(self.decoder(values)), values.new_zeros(*inputs.shape, 0), LSTMState(hidden, cell)

    def step(
        self, tokens: Int[Tensor, " rows"], state: LSTMState, memory: EmptyMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows 0"], LSTMState]:
        """Return log-probabilities of the next character after `tokens`, no attention weights, and the new state."""
        values = self.encoder(tokens)
        hidden, cell = (part.to(values.dtype) for part in state)  # weights may be in half precision
        after: list[Tensor] = []
        for layer in range(self.lstm.num_layers):
            for stack in (2 * layer, 2 * layer + 1):  # cells: a sequence of one step costs half as much again
                after += torch.lstm_cell(
                    values, (hidden[:, stack], cell[:, stack]), *get_weights(self.lstm, stack // 2, stack % 2)
                )
            values = torch.cat([after[-4], after[-2]], dim=-1)
        log_probs = self.out(self.decoder(values)).float().log_softmax(dim=-1)
        new = LSTMState(torch.stack(after[::2], dim=1), torch.stack(after[1::2], dim=1))
        return log_probs, values.new_zeros(len(tokens), 0), new
