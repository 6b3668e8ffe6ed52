"""A recurrent decoder that looks at its memory, gates what it sees, and may look a second time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.attention import Padding, weigh_scores
from attendgen.layers.attention_protocol import (
    Attention,
    can_defer_keys,
    extend_past,
    has_scores,
    has_weighted_sum,
    look_at,
    make_keys,
    start_past,
    uses_rows,
)
from attendgen.layers.attentive_steps import attend_in_turn, attend_once, require_weighted_sum, step_in_turn
from attendgen.layers.decoder import AttendedStep, AttendedSteps
from attendgen.layers.deferred import Deferred, DeferredSums
from attendgen.layers.fast_paths import are_products, stands_for
from attendgen.layers.hard_attention import AttentionSampler
from attendgen.layers.state import AttentionPast, Memory
from attendgen.utils.errors import UserError


class UnitState(NamedTuple):
    """State of an attention unit; `past` is None if its attention does not use it."""

    hidden: Float[Tensor, "rows hidden"]
    past: AttentionPast | None = None


class AttentionUnit(nn.Module):
    """A GRU whose gates read what h_{t-1} attends to, with a gate of the context and a second look with h_t.

    c_t = attention(h_{t-1}); [r_t, z_t, g_t] = sigmoid(W [x_t; h_{t-1}; c_t] + b);
    h~_t = tanh(W_x x_t + W_h (r_t h_{t-1}) + W_c (g_t c_t) + b'); h_t = (1 - z_t) h_{t-1} + z_t h~_t;
    c'_t = attention(W_2 h_t), with the same keys. The features are [h_t; c'_t], or [h_t; g_t c_t] with one look.

    Wang et al. 2019 name such a unit; their equations were not available, these are ours. Without the gate and with one
    look it is the GRU of Bahdanau et al. 2015 (A.2.2); the second look alone is the attention of Luong et al. 2015.

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        gate: scale the context by g_t, one number per dimension; false sets g_t = 1.
        looks: 1 or 2. The attention weights that are reported are those of the last.
        fast: compute all steps of known inputs by `attend_fast`; false follows the equations step by step.

    Raises:
        UserError: there is no such number of looks.
    """

    layers = 1

    def __init__(
        self,
        inputs: int,
        hidden: int,
        memory: int,
        attention: Callable[..., Attention],
        gate: bool = True,
        looks: int = 2,
        fast: bool = True,
    ) -> None:
        super().__init__()
        if looks not in (1, 2):
            raise UserError(f"model.decoder.looks={looks}: expected 1 or 2")
        self.hidden = hidden
        self.features = hidden + memory
        self.fast = fast
        self.attention: Any = attention(query=hidden, memory=memory)
        self.sizes = [hidden, hidden, memory if gate else 0]  # of r, z, g
        gates = sum(self.sizes)
        self.input_maps = nn.Linear(inputs, gates + hidden)  # of the gates and h~
        self.hidden_gates = nn.Linear(hidden, gates, bias=False)
        self.context_gates = nn.Linear(memory, gates, bias=False)
        self.candidate = nn.Linear(hidden + memory, hidden, bias=False)  # of [r h, g c]
        self.second_query = nn.Linear(hidden, hidden, bias=False) if looks == 2 else None

    @property
    def uses_rows(self) -> bool:
        """Whether the attention tells the rows of a table apart."""
        return uses_rows(self.attention)

    def keys(
        self, values: Float[Tensor, "batch source memory"], rows: Int[Tensor, "batch source"] | None = None
    ) -> Any:
        """Return the keys of the attention layer, which both looks share."""
        return make_keys(self.attention, values, rows)

    def initial_state(
        self, hidden: Float[Tensor, "batch layers hidden"], cell: Float[Tensor, "batch layers hidden"], memory: Memory
    ) -> UnitState:
        """Return the first state; there is no cell."""
        return UnitState(hidden[:, 0], start_past(self.attention, memory))

    def step(
        self, inputs: Float[Tensor, "rows inputs"], state: UnitState, memory: Memory
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows source"], UnitState]:
        """Compute one step: the features, the attention weights of the last look, and the new state."""
        state, attended = self.attend_step(inputs, state, memory)
        return torch.cat([state.hidden, attended.gated], dim=-1), attended.alpha, state

    def attend_step(
        self,
        inputs: Float[Tensor, "rows inputs"],
        state: UnitState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> tuple[UnitState, AttendedStep]:
        """Compute one step: the new state, and what the last look attended to.

        Args:
            sampler: of hard attention, for the last look; with two looks the first one stays soft.

        Raises:
            UserError: there is a sampler, but the layer's context is not a weighted sum.
        """
        # weights may be in half precision, and a decoding's state in single
        state = state._replace(hidden=state.hidden.to(inputs.dtype))
        return self.attend_mapped(self.input_maps(inputs), state, memory, sampler)

    def attend_mapped(
        self,
        mapped: Float[Tensor, "rows maps"],
        state: UnitState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> tuple[UnitState, AttendedStep]:
        """Compute `attend_step`, given the products of its inputs."""
        before, query = state.hidden, self.second_query
        attended = attend_once(self.attention, before, memory, state.past, sampler if query is None else None)
        of_inputs, candidate = mapped.split([sum(self.sizes), self.hidden], dim=-1)
        gates = torch.sigmoid(of_inputs + self.hidden_gates(before) + self.context_gates(attended.context))
        reset, update, gate = gates.split(self.sizes, dim=-1)
        attended = attended._replace(beta=gate if self.sizes[2] else None)
        candidate = torch.tanh(candidate + self.candidate(torch.cat([reset * before, attended.gated], dim=-1)))
        hidden = (1 - update) * before + update * candidate
        if query is not None:
            attended = attend_once(self.attention, query(hidden), memory, state.past, sampler)
            attended = attended._replace(context=attended.context.to(hidden.dtype))
        return UnitState(hidden, extend_past(state.past, attended.weights)), attended

    def attend_steps(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: UnitState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> AttendedSteps:
        """Compute all steps of known inputs, see `attend_step`.

        Args:
            sampler: of hard attention; alpha itself unless given.
            readout: a matrix with which the contexts are multiplied in the end.
        """
        return attend_in_turn(self, inputs, state, memory, sampler, readout)

    def require_weighted_sum(self) -> None:
        """Check that the attention can be hard.

        Raises:
            UserError: the context of its layer is not `alpha @ memory`.
        """
        require_weighted_sum(self.attention)

    def forward(
        self, inputs: Float[Tensor, "rows time inputs"], state: UnitState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], UnitState]:
        """Compute all steps of known inputs: the features, the attention weights, and the last state."""
        if not stands_for(self, "attend_step", "step"):
            return step_in_turn(self, inputs, state, memory)
        if self._can_be_fast() and state.past is None:
            return self.attend_fast(inputs, state, memory)
        steps = attend_in_turn(self, inputs, state, memory)
        assert steps.contexts is not None
        return torch.cat([steps.hidden, steps.contexts], dim=-1), steps.alphas, steps.state

    def _can_be_fast(self) -> bool:
        """Return whether `attend_fast` computes the steps of `attend_step`."""
        is_own = not stands_for(self, "attend_fast", "attend_step", "attend_mapped")
        return self.fast and not is_own and are_products([self.hidden_gates, self.context_gates, self.candidate])

    def attend_fast(
        self, inputs: Float[Tensor, "rows time inputs"], state: UnitState, memory: Memory
    ) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], UnitState]:
        """Compute `forward` faster, with the same result up to rounding.

        Products of the inputs are made for all steps at once, and so is the second look, which nothing reads. What is
        multiplied with h_{t-1} is one product, and the gradient of each weight, too, see `attendgen.layers.deferred`.
        """
        query_weight = self.attention.query_weight if has_scores(self.attention) else None
        maps = [self.hidden_gates.weight, *([] if query_weight is None else [query_weight])]
        of_hidden = Deferred(torch.cat(maps))
        of_context, of_read = Deferred(self.context_gates.weight), Deferred(self.candidate.weight)
        gates = sum(self.sizes)
        projected, candidates = self.input_maps(inputs).split([gates, self.hidden], dim=-1)
        zeros = projected.new_zeros(()).expand(*projected.shape[:2], len(of_hidden.weight) - gates)
        projected = of_context.defer(of_hidden.defer(torch.cat([projected, zeros], dim=-1)))
        candidates = of_read.defer(candidates)
        look = FirstLook(self.attention, memory, projected.dtype, projected.shape[:2])
        hidden, states, contexts, alphas = state.hidden.to(projected.dtype), [], [], []
        for before, candidate in zip(projected.unbind(1), candidates.unbind(1), strict=True):
            before, query = of_hidden.add(before, hidden).split([gates, before.size(1) - gates], dim=-1)
            context, alpha = look(hidden if query_weight is None else query)
            reset, update, gate = torch.sigmoid(of_context.add(before, context)).split(self.sizes, dim=-1)
            context = gate * context if self.sizes[2] else context
            read = torch.cat([reset * hidden, context], dim=-1)
            hidden = torch.lerp(hidden, torch.tanh(of_read.add(candidate, read)), update)
            states.append(hidden)
            contexts.append(context)
            alphas.append(alpha)
        stacked = torch.stack(states, dim=1)
        if self.second_query is None:
            seen, weights = torch.stack(contexts, dim=1), torch.stack(alphas, dim=1)
        else:
            seen, weights = look_at(self.attention, self.second_query(stacked), memory)
        return torch.cat([stacked, seen.to(stacked.dtype)], dim=-1), weights, UnitState(hidden)


class FirstLook:
    """What each h_{t-1} attends to, with the padding of the memory prepared once.

    It is called with W h_{t-1} if the attention offers its scores and has such a W, otherwise with h_{t-1}. The
    gradient of the memory, and of keys that are compared by a product, is one product for all steps.

    Args:
        shape: rows and steps of the loop.
    """

    def __init__(self, attention: Any, memory: Memory, dtype: torch.dtype, shape: torch.Size) -> None:
        self.attention, self.memory = attention, memory
        self.has_scores, self.sums = has_scores(attention), None
        rows, time = shape
        if self.has_scores:
            self.padding = Padding.make(memory.mask)
            self.memory = memory._replace(keys=memory.keys.to(dtype))
        if has_weighted_sum(attention):
            self.sums = DeferredSums(memory.values.to(dtype), rows, time)
            if can_defer_keys(attention):
                self.memory = self.memory._replace(keys=attention.defer_keys(self.memory.keys, rows, time))

    def __call__(self, query: Float[Tensor, "rows query"]) -> tuple[Tensor, Tensor]:
        """Return the context and the attention weights of each row."""
        memory = self.memory
        if self.sums is None:
            contexts, alphas = look_at(self.attention, query.unsqueeze(1), memory)
            return contexts.squeeze(1).to(query.dtype), alphas.squeeze(1)
        grouped = query.unflatten(0, (len(memory.values), -1))  # batch query dim
        if self.has_scores:
            alpha = weigh_scores(self.attention.score_keys(grouped, memory.keys), self.padding)
        else:  # the layer need not sum the memory
            alpha = self.attention(grouped, memory.keys, memory.values[..., :0], memory.mask)[1]
        return self.sums.add_up(alpha.to(self.sums.dtype)).flatten(0, 1), alpha.flatten(0, 1)
