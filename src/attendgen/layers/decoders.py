"""Two ways to put attention into an LSTM decoder, with one interface.

Shapes: `rows` = inputs x hypotheses of each; several rows may share one row of the memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.attentive_lstm import AttentiveLSTM
from attendgen.layers.lstm import read_lstm
from attendgen.layers.state import LSTMState, Memory


@runtime_checkable
class Decoder(Protocol):
    """The interface between a sequence-to-sequence model and its decoder.

    Attributes:
        features: the size of what it hands to the output layer.
        layers: how many LSTMs need a first state.
    """

    features: int
    layers: int

    @property
    def attention(self) -> Attention:
        """Its attention layer, which makes the keys of memories."""

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]
    ) -> Any:
        """Return the first state, all its tensors batch first."""

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], Any]:
        """Compute one step: what the output layer reads, alpha, and the new state."""

    def __call__(
        self, inputs: Float[Tensor, "rows time inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        """Compute all steps of known inputs: what the output layer reads, and alpha."""


class BahdanauDecoder(nn.Module):
    """Attention before the recurrence (Bahdanau et al. 2015, 3.1).

    h_t = LSTM([x_t, z_t], h_{t-1}), with z_t attended by h_{t-1}; the features are [h_t, z_t].

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        fast: see `AttentiveLSTM`.
    """

    layers = 1

    def __init__(
        self, inputs: int, hidden: int, memory: int, attention: Callable[..., Attention], fast: bool = True
    ) -> None:
        super().__init__()
        self.recurrence = AttentiveLSTM(inputs, hidden, memory, attention, fast=fast)
        self.features = hidden + memory

    @property
    def attention(self) -> Attention:
        """The attention layer of the recurrence."""
        return self.recurrence.attention

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]
    ) -> LSTMState:
        """Return the first state from that of the one layer."""
        return LSTMState(hidden[:, 0], cell[:, 0])

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], LSTMState]:
        """Compute one step: [h_t, z_t], alpha, and the new state."""
        state, attended = self.recurrence.step(inputs, state, memory)
        return torch.cat([state.hidden, attended.gated], dim=-1), attended.alpha, state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        """Compute all steps of known inputs: [h_t, z_t], and alpha."""
        steps = self.recurrence(inputs, state, memory)
        return torch.cat([steps.hidden, steps.contexts], dim=-1), steps.alphas


class InputFeedingState(NamedTuple):
    """The state of every layer, and the last features."""

    hidden: Float[Tensor, "rows layers hidden"]
    cell: Float[Tensor, "rows layers hidden"]
    feed: Float[Tensor, "rows hidden"]


class LuongDecoder(nn.Module):
    """Attention after the recurrence (Luong et al. 2015, 3).

    z_t is attended by h_t; the features are h~_t = tanh(W_c [z_t, h_t]).

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        input_feeding: the recurrence also reads h~_{t-1} (3.3); without it all steps are trained at once.
        layers: of the recurrence.
        dropout: between its layers.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        memory: int,
        attention: Callable[..., Attention],
        input_feeding: bool = True,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = hidden
        self.layers = layers
        self.input_feeding = input_feeding
        self.attention: Attention = attention(query=hidden, memory=memory)
        self.recurrence = nn.LSTM(
            inputs + hidden if input_feeding else inputs,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.combine = nn.Linear(memory + hidden, hidden, bias=False)

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]
    ) -> InputFeedingState:
        """Return the first state, with features of zeros."""
        return InputFeedingState(hidden, cell, torch.zeros_like(hidden[:, 0]))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], InputFeedingState]:
        """Compute one step: h~_t, alpha, and the new state."""
        features, alphas, state = self._run(inputs.unsqueeze(1), state, memory)
        return features[:, 0], alphas[:, 0], state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        """Compute all steps of known inputs: h~_t, and alpha."""
        if not self.input_feeding:
            return self._run(inputs, state, memory)[:2]
        steps = []
        for step in inputs.unbind(1):
            features, alpha, state = self.step(step, state, memory)
            steps.append((features, alpha))
        features, alphas = (torch.stack(values, dim=1) for values in zip(*steps, strict=True))
        return features, alphas

    def _run(
        self, inputs: Float[Tensor, "rows time inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], InputFeedingState]:
        """Compute steps between which nothing is fed back."""
        if self.input_feeding:
            inputs = torch.cat([inputs, state.feed.unsqueeze(1).to(inputs.dtype)], dim=-1)
        hidden, after = read_lstm(self.recurrence, inputs, LSTMState(state.hidden, state.cell))
        query = hidden.reshape(memory.values.size(0), -1, hidden.size(-1))  # rows of one input share its memory
        contexts, alphas = self.attention(query, *memory)
        contexts = contexts.reshape(*hidden.shape[:2], -1).to(hidden.dtype)
        features = torch.tanh(self.combine(torch.cat([contexts, hidden], dim=-1)))
        alphas = alphas.reshape(*hidden.shape[:2], -1)
        return features, alphas, InputFeedingState(after.hidden, after.cell, features[:, -1])
