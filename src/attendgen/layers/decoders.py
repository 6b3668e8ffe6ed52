"""Two ways to put attention into an LSTM decoder, behind one interface.

Shapes: `rows` = inputs x hypotheses of each; several rows may share one row of the memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.lstm import run_lstm
from attendgen.layers.recurrence import AttentiveLSTM, LSTMState, Memory


@runtime_checkable
class Decoder(Protocol):
    """What a sequence-to-sequence model asks of its decoder.

    Attributes:
        features: the size of what it hands to the output layer.
        layers: how many LSTMs need a first state.
    """

    features: int
    layers: int

    @property
    def attention(self) -> Attention:
        """Its attention layer, which projects memories."""

    def start(self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]) -> Any:
        """The first state, all its tensors batch first."""

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], Any]:
        """One step: what the output layer reads, alpha, and the new state."""

    def __call__(
        self, inputs: Float[Tensor, "rows time inputs"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        """All steps of known inputs."""


class Bahdanau(nn.Module):
    """Attention before the recurrence: h_t = LSTM([x_t, z_t], h_{t-1}), z_t attended by h_{t-1}; features [h_t, z_t]
    (Bahdanau et al. 2015, 3.1).

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
    """

    layers = 1

    def __init__(self, inputs: int, hidden: int, memory: int, attention: Callable[..., Attention]) -> None:
        super().__init__()
        self.recurrence = AttentiveLSTM(inputs, hidden, memory, attention)
        self.features = hidden + memory

    @property
    def attention(self) -> Attention:
        return self.recurrence.attention

    def start(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]
    ) -> LSTMState:
        return LSTMState(hidden[:, 0], cell[:, 0])

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], LSTMState]:
        state, context, alpha, _ = self.recurrence.step(self.recurrence.project(inputs), state, memory)
        return torch.cat([state.hidden, context], dim=-1), alpha, state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        steps = self.recurrence(inputs, state, memory)
        return torch.cat([steps.hidden, steps.contexts], dim=-1), steps.alphas


class FedState(NamedTuple):
    """The state of every layer, and the last features."""

    hidden: Float[Tensor, "rows layers hidden"]
    cell: Float[Tensor, "rows layers hidden"]
    feed: Float[Tensor, "rows hidden"]


class Luong(nn.Module):
    """Attention after the recurrence: z_t attended by h_t; features h~_t = tanh(W_c [z_t, h_t]) (Luong et al. 2015, 3).

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        feeding: the recurrence also reads h~_{t-1} (3.3, input feeding); without it all steps are trained at once.
        layers: of the recurrence.
        dropout: between its layers.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        memory: int,
        attention: Callable[..., Attention],
        feeding: bool = True,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = hidden
        self.layers = layers
        self.feeding = feeding
        self.attention: Attention = attention(query=hidden, memory=memory)
        self.recurrence = nn.LSTM(
            inputs + hidden if feeding else inputs,
            hidden,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.combine = nn.Linear(memory + hidden, hidden, bias=False)

    def start(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"]
    ) -> FedState:
        return FedState(hidden, cell, torch.zeros_like(hidden[:, 0]))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: FedState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], FedState]:
        features, alphas, state = self._run(inputs.unsqueeze(1), state, memory)
        return features[:, 0], alphas[:, 0], state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: FedState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"]]:
        if not self.feeding:
            return self._run(inputs, state, memory)[:2]
        steps = []
        for step in inputs.unbind(1):
            features, alpha, state = self.step(step, state, memory)
            steps.append((features, alpha))
        features, alphas = (torch.stack(values, dim=1) for values in zip(*steps, strict=True))
        return features, alphas

    def _run(
        self, inputs: Float[Tensor, "rows time inputs"], state: FedState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], FedState]:
        """As many steps as need no feeding in between."""
        if self.feeding:
            inputs = torch.cat([inputs, state.feed.unsqueeze(1).to(inputs.dtype)], dim=-1)
        # layers rows hidden
        before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        hidden, after = run_lstm(self.recurrence, inputs, before)
        query = hidden.reshape(memory.values.size(0), -1, hidden.size(-1))  # rows of one input ask the same memory
        contexts, alphas = self.attention(query, *memory)
        contexts = contexts.reshape(*hidden.shape[:2], -1).to(hidden.dtype)
        features = torch.tanh(self.combine(torch.cat([contexts, hidden], dim=-1)))
        alphas = alphas.reshape(*hidden.shape[:2], -1)
        last, cell = (part.transpose(0, 1) for part in after)
        return features, alphas, FedState(last, cell, features[:, -1])
