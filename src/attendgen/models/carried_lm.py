"""A character language model that reads on, and now and again reads its last characters anew in both directions.

attendgen train experiment=novels model=lm_context_carried data.streams=true
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.errors import UserError
from attendgen.layers.attention import Attention
from attendgen.layers.past import ReaderState, blank_past
from attendgen.layers.recurrence import Memory
from attendgen.models.lm import ContextLM
from attendgen.models.reading import read_padded
from attendgen.vocabulary import PAD, SOS


class CarriedContextLM(ContextLM):
    """A `ContextLM` along a whole text: its decoder's state is carried on, and only what it attends to is renewed.

    The text is read in pieces. Before each, the last `window` characters, all of them to the left of what the piece
    predicts, are read in both directions and are the memory of all its steps. A state holds all that the next piece
    depends on; a blank one is zero, for nothing has been read.

    Shapes: `rows` texts read side by side, `time` characters of each.

    Args:
        symbols, attention, options: see `ContextLM`.
        window: how many characters are read in both directions.
        piece: after how many characters they are read anew; what is read at one call ends with a piece, too.

    Raises:
        UserError: the window or the piece is empty.
    """

    def __init__(
        self, symbols: int, attention: Callable[..., Attention], window: int = 64, piece: int = 192, **options: Any
    ) -> None:
        super().__init__(symbols, attention, **options)
        for name, length in {"window": window, "piece": piece}.items():
            if length < 1:
                raise UserError(f"model.{name}={length}: expected 1 or more")
        del self.bridge  # the state is carried, not made of the context
        self.window = window
        self.piece = piece

    def blank(self, rows: int) -> ReaderState:
        """The state before anything is read."""
        zero = self.output.weight.new_zeros(rows, self.layers, self.decoder.hidden_size)
        recent = zero.new_full((rows, self.window - 1), PAD, dtype=torch.long)
        return ReaderState(zero, zero, *blank_past(self.past, zero), recent)

    def look(self, tokens: Int[Tensor, " rows"], state: ReaderState) -> Memory:
        """The last characters up to and with `tokens`, which are the next to be read, as a memory."""
        context = torch.cat([state.recent, tokens.unsqueeze(1)], dim=1)
        order = (context == PAD).long().argsort(dim=1, stable=True)  # the padding to the right
        memory, _ = self.encode(context.gather(1, order))
        return memory

    def read(
        self, inputs: Int[Tensor, "rows time"], state: ReaderState
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time window"], ReaderState]:
        """Logits after each of `inputs`, the weights of the characters before its piece, and the new state."""
        logits, alphas = [], []
        for piece in inputs.split(self.piece, dim=1):
            some, weights, state = self.decode(piece, state, self.look(piece[:, 0], state))
            logits.append(some)
            alphas.append(weights)
        return torch.cat(logits, dim=1), torch.cat(alphas, dim=1), state

    def start(
        self, context: Int[Tensor, "batch context"], state: ReaderState | None = None
    ) -> tuple[Memory, ReaderState]:
        """Read contexts padded on the right but for their last characters, which are what `step` is given first.

        Args:
            state: what they go on from; blank unless given.
        """
        state = read_padded(self, context, state)
        lengths = (context != PAD).sum(dim=1, keepdim=True)
        last = context.gather(1, (lengths - 1).clamp(min=0)).masked_fill(lengths == 0, SOS)
        return self.look(last.squeeze(1), state), state

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time symbols"], Float[Tensor, "batch time window"]]:
        """Teacher forcing: logits of each next character given the true ones before it, and the attention."""
        logits, alphas, _ = self.read(inputs, read_padded(self, context))
        return logits, alphas
