"""An LSTM decoder that attends to its memory after each step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention import Padding, weigh_scores
from attendgen.layers.attention_protocol import (
    Attention,
    extend_past,
    has_scores,
    look_at,
    make_keys,
    start_past,
    uses_rows,
)
from attendgen.layers.attentive_steps import step_in_turn
from attendgen.layers.deferred import Deferred, defer_memory, defer_weight
from attendgen.layers.fast_paths import is_unchanged, stands_for
from attendgen.layers.lstm import read_lstm, step_lstm, update_cell
from attendgen.layers.plain import is_plain
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

    @property
    def uses_rows(self) -> bool:
        """Whether the attention tells the rows of a table apart."""
        return uses_rows(self.attention)

    def keys(
        self, values: Float[Tensor, "batch source memory"], rows: Int[Tensor, "batch source"] | None = None
    ) -> Any:
        """Return the keys of the attention layer."""
        return make_keys(self.attention, values, rows)

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
        if not stands_for(self, "forward", "step"):
            return step_in_turn(self, inputs, state, memory)
        if not self.input_feeding and state.past is None:
            return self._run(inputs, state, memory)
        if self.input_feeding and self.layers == 1 and self._has_usual_parts():
            return self._run_fed(inputs, state, memory)
        steps = []
        for step in inputs.unbind(1):
            features, alpha, state = self._run(step.unsqueeze(1), state, memory)
            steps.append((features, alpha))
        features, alphas = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        return features, alphas, state

    def _has_usual_parts(self) -> bool:
        """Return whether the recurrence and W_c are called as torch's layers with their weights."""
        is_usual = is_unchanged(self.recurrence, nn.LSTM) and is_unchanged(self.combine, nn.Linear)
        return is_usual and not is_plain(self.recurrence)

    def _run_fed(
        self, inputs: Float[Tensor, "rows time inputs"], state: InputFeedingState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], InputFeedingState]:
        """Compute steps of one layer with input feeding faster, with the same result up to rounding.

        W_x x_t is one product for all steps, and the gradient of each weight, too (`attendgen.layers.deferred`). The
        part of W_c that reads the context is multiplied with the memory, as in `attendgen.layers.attentive_steps`.
        """
        lstm: Any = self.recurrence
        size = lstm.hidden_size
        of_inputs, of_feed = lstm.weight_ih_l0.split([inputs.size(2), size], dim=1)
        recurrent = torch.cat([of_feed, lstm.weight_hh_l0], dim=1)
        gates = functional.linear(inputs, of_inputs, lstm.bias_ih_l0 + lstm.bias_hh_l0)
        dtype = gates.dtype
        fed: list[Tensor] = []
        all_gates = defer_weight(gates, recurrent, fed)
        of_fed = recurrent.detach().to(dtype)
        combine = FedContexts(self, memory, inputs.size(1))
        sums = combine.start(gates)
        hidden, cell, feed = (part.to(dtype) for part in (state.hidden[:, 0], state.cell[:, 0], state.feed))
        past, features, alphas = state.past, [], []
        for step_gates, before in zip(all_gates.unbind(1), sums.unbind(1), strict=True):
            factor = torch.cat([feed, hidden], dim=-1)
            fed.append(factor.detach())
            hidden, cell = update_cell(step_gates, functional.linear(factor, of_fed), cell)
            total, alpha = combine(before, hidden, past)
            feed = torch.tanh(total)
            past = extend_past(past, alpha)
            features.append(feed)
            alphas.append(alpha)
        last = InputFeedingState(hidden.unsqueeze(1), cell.unsqueeze(1), feed, past)
        return torch.stack(features, dim=1), torch.stack(alphas, dim=1), last

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


class FedContexts:
    """W_c [z_t, h_t] of each step, where h~_{t-1} is fed back.

    Args:
        time: the number of steps.
    """

    def __init__(self, decoder: LuongDecoder, memory: Memory, time: int) -> None:
        self.decoder = decoder
        self.memory = memory
        # with a longer memory that would be much more work
        self.reorders = has_scores(decoder.attention) and memory.values.size(1) <= 2 * time
        self.padding = Padding.make(memory.mask) if self.reorders else None
        self.weights: list[Tensor] = []
        self.of_read = Deferred(decoder.combine.weight)
        self.values = decoder.combine.weight

    def start(self, gates: Float[Tensor, "rows time gates"]) -> Float[Tensor, "rows time hidden"]:
        """Return the summands to which the products of all steps are added: the bias, or zeros."""
        combine: Any = self.decoder.combine
        weight, dtype = combine.weight, gates.dtype
        bias = weight.new_zeros(len(weight)) if combine.bias is None else combine.bias
        sums = bias.to(dtype).expand(*gates.shape[:2], -1)
        if self.reorders:
            of_context, weight = weight.split([self.memory.values.size(2), self.decoder.recurrence.hidden_size], dim=1)
            values = functional.linear(self.memory.values, of_context).to(dtype)
            sums = defer_memory(sums, values, self.weights)
            self.values = values.detach()
            self.memory = self.memory._replace(keys=self.memory.keys.to(dtype))
        self.of_read = Deferred(weight)
        return self.of_read.defer(sums)

    def __call__(
        self, before: Float[Tensor, "rows hidden"], hidden: Float[Tensor, "rows hidden"], past: AttentionPast | None
    ) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows source"]]:
        """Return `before` + W_c [z_t, h_t], and alpha."""
        read = self.decoder.hidden_dropout(hidden)
        if not self.reorders:
            contexts, alphas = look_at(self.decoder.attention, hidden.unsqueeze(1), self.memory, past)
            factor = torch.cat([contexts.squeeze(1).to(hidden.dtype), read], dim=-1)
            return self.of_read.add(before, factor), alphas.squeeze(1)
        attention: Any = self.decoder.attention
        query = hidden if attention.query_weight is None else functional.linear(hidden, attention.query_weight)
        batch = len(self.memory.values)
        alpha = weigh_scores(attention.score_keys(query.unflatten(0, (batch, -1)), self.memory.keys), self.padding)
        weights = alpha.to(hidden.dtype)
        self.weights.append(weights.detach())
        total = self.of_read.add(before, read).unflatten(0, (batch, -1))
        return torch.baddbmm(total, weights, self.values).flatten(0, 1), alpha.flatten(0, 1)
