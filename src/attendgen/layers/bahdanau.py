"""An LSTM decoder that attends to its memory before each step, by its equations and by a fast path."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention_protocol import Attention, extend_past, has_scores, make_keys, start_past, uses_rows
from attendgen.layers.attentive_steps import (
    FastSteps,
    attend_in_turn,
    attend_once,
    require_weighted_sum,
    step_in_turn,
)
from attendgen.layers.decoder import AttendedStep, AttendedSteps
from attendgen.layers.fast_paths import are_products, stands_for
from attendgen.layers.fast_tanh import fast_tanh
from attendgen.layers.hard_attention import AttentionSampler
from attendgen.layers.state import AttentiveState, Memory
from attendgen.utils.errors import UserError


class BahdanauDecoder(nn.Module):
    """An LSTM fed [x_t, z_t], where the context z_t is attended with h_{t-1} (Bahdanau et al. 2015; Xu et al. 2015).

    The features are [h_t, z_t]. Several state rows may share one row of the memory: the memory is then neither copied
    nor projected again.

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        context_gate: scale the context by beta_t = sigmoid(W h_{t-1} + b): "scalar" (Xu et al. 2015, 4.2.1), or
            "vector" for one number per dimension of the context; "none" does not scale it.
        fast: compute all steps of known inputs by `attend_fast`; false follows the equations step by step.

    Raises:
        UserError: there is no such gate.
    """

    layers = 1

    def __init__(
        self,
        inputs: int,
        hidden: int,
        memory: int,
        attention: Callable[..., Attention],
        context_gate: str = "none",
        fast: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"none": 0, "scalar": 1, "vector": memory}
        if context_gate not in sizes:
            raise UserError(f"model.context_gate={context_gate}: unknown; choose one of {', '.join(sizes)}")
        self.hidden = hidden
        self.features = hidden + memory
        self.fast = fast
        self.attention = attention(query=hidden, memory=memory)
        self.input_gates = nn.Linear(inputs, 4 * hidden)
        self.recurrent_gates = nn.Linear(memory + hidden, 4 * hidden, bias=False)  # of [z, h]
        self.context_gate = nn.Linear(hidden, sizes[context_gate]) if sizes[context_gate] else None
        self.gate_commutes = context_gate != "vector"  # a number may be multiplied after W_z, too
        with torch.no_grad():
            self.input_gates.bias[hidden : 2 * hidden] = 1.0  # remember at first (Jozefowicz et al. 2015)

    def require_weighted_sum(self) -> None:
        """Check that the attention can be hard: a sampler replaces alpha in `alpha @ memory`.

        Raises:
            UserError: the layer does not declare that its context is this product.
        """
        require_weighted_sum(self.attention)

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
    ) -> AttentiveState:
        """Return the first state from that of the one layer."""
        return AttentiveState(hidden[:, 0], cell[:, 0], start_past(self.attention, memory))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: AttentiveState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], AttentiveState]:
        """Compute one step: [h_t, z_t], alpha, and the new state."""
        state, attended = self.attend_step(inputs, state, memory)
        return torch.cat([state.hidden, attended.gated], dim=-1), attended.alpha, state

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: AttentiveState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], AttentiveState]:
        """Compute all steps of known inputs: [h_t, z_t], alpha, and the last state."""
        if not (stands_for(self, "attend_step", "step") or stands_for(self, "attend_steps", "step")):
            return step_in_turn(self, inputs, state, memory)
        steps = self.attend_steps(inputs, state, memory)
        assert steps.contexts is not None
        return torch.cat([steps.hidden, steps.contexts], dim=-1), steps.alphas, steps.state

    def attend_step(
        self,
        inputs: Float[Tensor, "rows inputs"],
        state: AttentiveState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> tuple[AttentiveState, AttendedStep]:
        """Compute one step; return the new state and what was attended to.

        z_t = beta_t attention(h_{t-1}, memory); [i, f, g, o] = W_x x_t + W_z z_t + W_h h_{t-1} + b;
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g); h_t = sigmoid(o) tanh(c_t).

        Args:
            sampler: of hard attention; alpha itself unless given.

        Raises:
            UserError: there is a sampler, but the layer's context is not a weighted sum.
        """
        dtype = inputs.dtype  # weights may be in half precision, and a decoding's state in single
        state = state._replace(hidden=state.hidden.to(dtype), cell=state.cell.to(dtype))
        attended = self.attend(state, memory, sampler)
        read = torch.cat([attended.gated, state.hidden], dim=-1)
        return self.update(self.input_gates(inputs) + self.recurrent_gates(read), state, attended), attended

    def attend(self, state: AttentiveState, memory: Memory, sampler: AttentionSampler | None) -> AttendedStep:
        """Return what h_{t-1} attends to."""
        attended = attend_once(self.attention, state.hidden, memory, state.past, sampler)
        beta = None if self.context_gate is None else torch.sigmoid(self.context_gate(state.hidden))
        return attended._replace(beta=beta)

    def update(
        self, gates: Float[Tensor, "rows gates"], state: AttentiveState, attended: AttendedStep
    ) -> AttentiveState:
        """Return the new state, given the pre-activations of the gates and what was attended to."""
        i, f, g, o = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(f) * state.cell + torch.sigmoid(i) * fast_tanh(g)
        past = extend_past(state.past, attended.weights)
        return AttentiveState(torch.sigmoid(o) * fast_tanh(cell), cell, past)

    def attend_steps(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: AttentiveState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> AttendedSteps:
        """Compute all steps of known inputs.

        Args:
            sampler: of hard attention; alpha itself unless given.
            readout: a matrix with which the contexts are multiplied in the end.
        """
        if self._can_be_fast():
            return self.attend_fast(inputs, state, memory, sampler, readout)
        return attend_in_turn(self, inputs, state, memory, sampler, readout)

    def _can_be_fast(self) -> bool:
        """Return whether `attend_fast` computes the steps of `attend_step`."""
        is_own = not stands_for(self, "attend_fast", "attend_step", "attend", "update")
        are_usual = are_products([self.recurrent_gates]) and are_products([self.context_gate], bias=True)
        return self.fast and not is_own and are_usual

    def attend_fast(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: AttentiveState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> AttendedSteps:
        """Compute `attend_steps` faster, with the same result up to rounding.

        See `attendgen.layers.attentive_steps`.

        Raises:
            UserError: there is a sampler, but the layer's context is not a weighted sum.
        """
        if sampler is not None:
            self.require_weighted_sum()
        reorders = self._reorders(memory, len(inputs) // len(memory.values) * inputs.size(1))
        return FastSteps(self, memory, reorders, sampler, readout).run(inputs, state)

    def _reorders(self, memory: Memory, contexts: int) -> bool:
        """Return whether W_z may be multiplied with each memory vector, and that is less work than with each context.

        The work is counted forward, and backward to the weight and, unless it is a constant, to what it is multiplied
        with.
        """
        source, dim = memory.values.shape[1:]
        once = source * (2 + memory.values.requires_grad)
        is_less = once + 3 * contexts * source / dim < 3 * contexts
        return self.gate_commutes and has_scores(self.attention) and is_less
