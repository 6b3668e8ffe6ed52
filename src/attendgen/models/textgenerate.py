"""A published character model: a bidirectional LSTM that is given one character at a time.

attendgen import textgenerate FILE --out RUN
attendgen train experiment=novels_textgenerate
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.lstm import run_lstm
from attendgen.models.reading import WEIGHTS, Nothing, read_padded


class StackState(NamedTuple):
    """States of the layers' forward and backward LSTMs in torch's order, batch first."""

    hidden: Float[Tensor, "rows stacks hidden"]
    cell: Float[Tensor, "rows stacks hidden"]


class TextGenerateLM(nn.Module):
    """Embedding, bidirectional LSTM, attention over what it gives, two linear layers.

    The published code feeds one character a call and carries the state of both directions on. Over one character
    neither direction sees anything to the right: a layer is two LSTMs that both run forwards in time, joined before the
    next layer, and the softmax of the attention over one position is 1. So whole texts are computed at once here, layer
    by layer, with the same result.

    Args:
        symbols: vocabulary size.
        hidden: size of the embedding, of each direction's state, and of the layer before the output.
        layers: of the LSTM.
    """

    def __init__(self, symbols: int, hidden: int = 100, layers: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Embedding(symbols, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, bidirectional=True)
        self.decoder = nn.Linear(2 * hidden, hidden)
        self.out = nn.Linear(hidden, symbols)

    def blank(self, rows: int) -> StackState:
        """The state before anything is read."""
        zero = self.out.weight.new_zeros(rows, 2 * self.lstm.num_layers, self.lstm.hidden_size)
        return StackState(zero, zero)

    def weights(self, stack: int) -> list[Tensor]:
        """The weights of one layer's one direction."""
        suffix = f"_l{stack // 2}" + ("_reverse" if stack % 2 else "")
        return [getattr(self.lstm, name + suffix) for name in WEIGHTS]

    def read(
        self, inputs: Int[Tensor, "rows time"], state: StackState
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time 0"], StackState]:
        """Logits after each of `inputs`, no weights of places before it, and the new state."""
        values = self.encoder(inputs)
        after: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.lstm.num_layers):
            directions = []
            for stack in (2 * layer, 2 * layer + 1):
                hidden, cell = (part[:, stack].unsqueeze(0).contiguous() for part in state)
                output, (hidden, cell) = run_lstm(self.lstm, values, (hidden, cell), weights=self.weights(stack))
                directions.append(output)
                after.append((hidden[0], cell[0]))
            values = torch.cat(directions, dim=-1)
        hidden, cell = (torch.stack(parts, dim=1) for parts in zip(*after, strict=True))
        return self.out(self.decoder(values)), values.new_zeros(*inputs.shape, 0), StackState(hidden, cell)

    def start(self, context: Int[Tensor, "batch context"]) -> tuple[Nothing, StackState]:
        """Read contexts padded on the right but for their last characters, which are what `step` is given first."""
        return Nothing(self.out.weight.new_zeros(len(context), 0)), read_padded(self, context)

    def step(
        self, tokens: Int[Tensor, " rows"], state: StackState, memory: Nothing
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows 0"], StackState]:
        """Log-probabilities of the next character after `tokens`, no attention, and the new state."""
        values = self.encoder(tokens)
        hidden, cell = (part.to(values.dtype) for part in state)  # weights may be in half precision
        after: list[Tensor] = []
        for layer in range(self.lstm.num_layers):
            for stack in (2 * layer, 2 * layer + 1):  # cells: a sequence of one step costs half as much again
                after += torch.lstm_cell(values, (hidden[:, stack], cell[:, stack]), *self.weights(stack))
            values = torch.cat([after[-4], after[-2]], dim=-1)
        log_probs = self.out(self.decoder(values)).float().log_softmax(dim=-1)
        new = StackState(torch.stack(after[::2], dim=1), torch.stack(after[1::2], dim=1))
        return log_probs, values.new_zeros(len(tokens), 0), new

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time symbols"], Float[Tensor, "batch time 0"]]:
        """Teacher forcing: logits of each next character given the true ones before it, and no attention."""
        _, state = self.start(context)
        logits, alphas, _ = self.read(inputs, state)
        return logits, alphas
