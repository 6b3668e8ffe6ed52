"""An LSTM decoder that attends to its memory after each step."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attendgen.layers.attention import Attention, extend_past, look_at, start_past
from attendgen.layers.lstm import read_lstm, step_lstm
from attendgen.layers.state import AttentionPast, LSTMState, Memory


class InputFeedingState(NamedTuple):
    """The state of every layer, the last features, and the attention's past if it uses one."""

    hidden: Float[Tensor, "rows layers hidden"]
    cell: Float[Tensor, "rows layers hidden"]
    feed: Float[Tensor, "rows hidden"]
    past: AttentionPast | None = None


class LuongDecoder(nn.Module):
    """Attention after the recurrence (Luong et al. 2015, 3).

    z_t is attended with h_t; the features are h~_t = tanh(W_c [z_t, h_t]).

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        input_feeding: the recurrence also reads h~_{t-1} (3.3); without it all steps are trained at once.
        layers: of the recurrence.
        dropout: between its layers.
        bias: add one to W_c [z_t, h_t].
        hidden_dropout: on h_t before W_c.
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
        bias: bool = False,
        hidden_dropout: float = 0.0,
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
        self.combine = nn.Linear(memory + hidden, hidden, bias=bias)
        self.hidden_dropout = nn.Dropout(hidden_dropout)

    def keys(self, values: Float[Tensor, "batch source memory"]) -> Float[Tensor, "batch source key"]:
        """Return the keys of the attention layer."""
        return self.attention.keys(values)

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"], memory: Memory
    ) -> InputFeedingState:
        """Return the first state, with features of zeros."""
        return InputFeedingState(hidden, cell, torch.zeros_like(hidden[:, 0]), start_past(self.attention, memory))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], InputFeedingState]:
        """Compute one step: h~_t, alpha, and the new state."""
        if self.training:  # with dropout between the layers
            features, alphas, state = self._run(inputs.unsqueeze(1), state, memory)
        else:
            after = step_lstm(self.recurrence, self._feed(inputs, state), LSTMState(state.hidden, state.cell))
            features, alphas, state = self._attend(after.hidden[:, -1:], after, state.past, memory)
        return features[:, 0], alphas[:, 0], state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], InputFeedingState]:
        """Compute all steps of known inputs: h~_t, alpha, and the last state."""
        if not self.input_feeding and state.past is None:
            return self._run(inputs, state, memory)
        steps = []
        for step in inputs.unbind(1):
            features, alpha, state = self._run(step.unsqueeze(1), state, memory)
            steps.append((features, alpha))
        features, alphas = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        return features, alphas, state

    def _feed(self, inputs: Float[Tensor, "rows _inputs"], state: InputFeedingState) -> Float[Tensor, "rows read"]:
        """Return what the recurrence reads."""
        return torch.cat([inputs, state.feed.to(inputs.dtype)], dim=-1) if self.input_feeding else inputs

    def _run(
        self, inputs: Float[Tensor, "rows time inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], InputFeedingState]:
        """Compute steps between which nothing is fed back."""
        if self.input_feeding:
            inputs = self._feed(inputs.squeeze(1), state).unsqueeze(1)
        hidden, after = read_lstm(self.recurrence, inputs, LSTMState(state.hidden, state.cell))
        return self._attend(hidden, after, state.past, memory)

    def _attend(
        self, hidden: Float[Tensor, "rows time hidden"], after: LSTMState, past: AttentionPast | None, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], InputFeedingState]:
        """Return the features and alphas of states of the top layer, and the state after the last of them."""
        contexts, alphas = look_at(self.attention, hidden, memory, past)
        features = torch.tanh(self.combine(torch.cat([contexts.to(hidden.dtype), self.hidden_dropout(hidden)], dim=-1)))
        past = extend_past(past, alphas[:, -1])
        return features, alphas, InputFeedingState(after.hidden, after.cell, features[:, -1], past)
