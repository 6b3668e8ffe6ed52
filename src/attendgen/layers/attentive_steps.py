"""The fast path of a `BahdanauDecoder`: all steps of known inputs, in few operations.

Four things save time, and the results are those of the equations up to rounding:

- Products of all steps are computed at once where nothing is fed back: W_x x_t, and the contexts of the output layer.
- Everything that is multiplied with h_{t-1} is one product: W_h, the attention's W, and the context gate's.
- The gradients of these weights, and of what is attended to, are one product each, see `attendgen.layers.deferred`.
- W_z is multiplied with the memory instead of with each context where that is less work:
  W_z sum_l alpha_l a_l = sum_l alpha_l W_z a_l.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attendgen.layers.attention import Padding, weigh_scores
from attendgen.layers.attention_protocol import extend_past, has_scores, has_weighted_sum, look_at
from attendgen.layers.decoder import AttendedStep, AttendedSteps, Decoder, HardDecoder
from attendgen.layers.deferred import Deferred, defer_memory, defer_weight
from attendgen.layers.hard_attention import AttentionSampler, SampledWeights, draw_weights, sum_sampled
from attendgen.layers.lstm import update_cell
from attendgen.layers.state import AttentionPast, AttentiveState, Memory, map_tensors
from attendgen.utils.errors import UserError

if TYPE_CHECKING:
    from attendgen.layers.bahdanau import BahdanauDecoder


class StepMaps(NamedTuple):
    """What is multiplied with h_{t-1}, one below the other: W_h, the attention's W, and the context gate's weight.

    Attributes:
        sizes: rows of each of the three.
        bias: of the last two, with zeros for the attention's.
    """

    weight: Float[Tensor, "maps hidden"]
    bias: Float[Tensor, " query_and_gate"]
    sizes: list[int]

    @classmethod
    def stack(cls, decoder: "BahdanauDecoder", of_hidden: Float[Tensor, "gates hidden"]) -> "StepMaps":
        """Return the maps of a decoder."""
        attention: Any = decoder.attention
        query = attention.query_weight if has_scores(attention) else None
        gate = decoder.context_gate
        zeros = of_hidden.new_zeros(0 if query is None else len(query))
        parts = [of_hidden, query, None if gate is None else gate.weight]
        given = [part for part in parts if part is not None]
        return cls(
            torch.cat(given) if len(given) > 1 else of_hidden,
            zeros if gate is None else torch.cat([zeros, gate.bias]),
            [0 if part is None else len(part) for part in parts],
        )


class StepOutputs(NamedTuple):
    """What a step contributes to the whole; `scaled` are the weights times beta."""

    alpha: Float[Tensor, "rows source"]
    drawn: SampledWeights
    scaled: Float[Tensor, "rows source"] | None
    context: Float[Tensor, "rows memory"] | None
    gates: Float[Tensor, "rows gates"]


class FastSteps:
    """The steps of a decoder over a memory.

    Args:
        reorders: multiply W_z with the memory.
        readout: a matrix with which the contexts are multiplied in the end.
    """

    def __init__(
        self,
        decoder: "BahdanauDecoder",
        memory: Memory,
        reorders: bool,
        sampler: AttentionSampler | None,
        readout: Float[Tensor, "features memory"] | None,
    ) -> None:
        self.decoder = decoder
        self.memory = memory
        self.reorders = reorders
        self.sampler = sampler
        self.readout = readout
        self.has_scores = has_scores(decoder.attention)
        self.padding = Padding.make(memory.mask) if self.has_scores else None
        # each step's weights of the sum if W_z is multiplied with the memory, otherwise its contexts
        self.attended: list[Tensor] = []

    def run(self, inputs: Float[Tensor, "rows time inputs"], state: AttentiveState) -> AttendedSteps:
        """Compute all steps."""
        decoder = self.decoder
        of_context, of_hidden = decoder.recurrent_gates.weight.split(
            [self.memory.values.size(2), decoder.hidden], dim=1
        )
        maps = StepMaps.stack(decoder, of_hidden)
        projected = decoder.input_gates(inputs)
        if len(maps.bias):
            more = maps.bias.to(projected.dtype).expand(*projected.shape[:2], -1)
            projected = torch.cat([projected, more], dim=-1)
        dtype = projected.dtype
        second = functional.linear(self.memory.values, of_context).to(dtype) if self.reorders else of_context
        products = Deferred(maps.weight)
        projected = products.defer(projected)
        defer = defer_memory if self.reorders else defer_weight
        projected = defer(projected, second, self.attended)
        second = second.detach().to(dtype)
        if self.has_scores:
            self.memory = self.memory._replace(keys=self.memory.keys.to(dtype))
        values = self.memory.values if self.reorders or not self.has_scores else self.memory.values.to(dtype)
        state = state._replace(hidden=state.hidden.to(dtype), cell=state.cell.to(dtype))
        hidden, steps = [], []
        for before in projected.unbind(1):
            gates, query, beta = products.add(before, state.hidden).split(maps.sizes, dim=-1)
            beta = torch.sigmoid(beta) if maps.sizes[2] else None
            step = self.attend(query if maps.sizes[1] else state.hidden, beta, state, values, second)
            past = extend_past(state.past, step.drawn.weights)
            state = AttentiveState(*update_cell(gates, step.gates, state.cell), past)
            hidden.append(state.hidden)
            steps.append(step)
        return self.collect(torch.stack(hidden, dim=1), steps, state)

    def attend(
        self, query: Tensor, beta: Tensor | None, state: AttentiveState, values: Tensor, second: Tensor
    ) -> StepOutputs:
        """Compute one step's attention, and W_z z_t.

        Args:
            query: multiplied with the attention's W if the layer offers its scores.
            second: W_z times the memory if W_z is multiplied with it, otherwise W_z.
        """
        batch = len(self.memory.values)
        attention: Any = self.decoder.attention
        if self.has_scores:
            grouped = query.unflatten(0, (batch, -1))  # batch query dim
            alpha = weigh_scores(attention.score_keys(grouped, self.memory.keys), self.padding)
            drawn = SampledWeights(alpha) if self.sampler is None else draw_weights(self.sampler, alpha)
            weights = drawn.weights.to(query.dtype)
            if self.reorders:
                scaled = weights if beta is None else weights * beta.unflatten(0, (batch, -1))
                self.attended.append(scaled.detach())
                parts = (alpha, drawn, scaled, scaled @ second)
                alpha, drawn, scaled, gates = map_tensors(lambda part: part.flatten(0, 1), parts)
                return StepOutputs(alpha, drawn, scaled, None, gates)
            context = (weights @ values).flatten(0, 1)
            alpha, drawn = map_tensors(lambda part: part.flatten(0, 1), (alpha, drawn))
        else:
            contexts, alphas = look_at(attention, state.hidden.unsqueeze(1), self.memory, state.past)
            context, alpha = contexts.squeeze(1), alphas.squeeze(1)
            drawn = SampledWeights(alpha)
            if self.sampler is not None:
                context, drawn = sum_sampled(self.sampler, alpha, self.memory.values)
            context = context.to(query.dtype)
        context = context if beta is None else beta * context
        self.attended.append(context.detach())
        return StepOutputs(alpha, drawn, None, context, functional.linear(context, second))

    def collect(
        self, hidden: Float[Tensor, "rows time hidden"], steps: Sequence[StepOutputs], state: AttentiveState
    ) -> AttendedSteps:
        """Return what all steps computed."""
        if self.reorders:
            scaled = torch.stack([step.scaled for step in steps if step.scaled is not None], dim=1)
            grouped = scaled.reshape(len(self.memory.values), -1, scaled.size(-1))  # batch, query x time, source
            values = self.memory.values if self.readout is None else functional.linear(self.memory.values, self.readout)
            contexts = (grouped @ values.to(grouped.dtype)).unflatten(1, (-1, hidden.size(1))).flatten(0, 1)
        else:
            contexts = torch.stack([step.context for step in steps if step.context is not None], dim=1)
            contexts = contexts if self.readout is None else functional.linear(contexts, self.readout)
        alphas, weights, relaxed, noise = stack_weights([step.alpha for step in steps], [step.drawn for step in steps])
        return AttendedSteps(hidden, contexts, alphas, weights, state, relaxed, noise)


def stack_weights(
    alphas: list[Tensor], drawn: list[SampledWeights]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return alpha, weights, relaxed samples and noise of all steps: rows, time, source."""
    stacked = torch.stack(alphas, dim=1)
    is_soft = drawn[0].weights is alphas[0]
    weights = stacked if is_soft else torch.stack([step.weights for step in drawn], dim=1)
    relaxed = [step.relaxed for step in drawn if step.relaxed is not None]
    noise = [step.noise for step in drawn if step.noise is not None]
    return stacked, weights, torch.stack(relaxed, 1) if relaxed else None, torch.stack(noise, 1) if noise else None


def require_weighted_sum(attention: Any) -> None:
    """Check that an attention layer can be hard: a sampler replaces alpha in `alpha @ memory`.

    Raises:
        UserError: the layer does not declare that its context is this product.
    """
    if not has_weighted_sum(attention):
        raise UserError(
            "model.attention: hard attention samples memory vectors, but the context of "
            f"{type(attention).__name__} may be something else than alpha @ memory; train soft attention, or set "
            "`context_is_weighted_sum = True` in that class if it is this product"
        )


def attend_once(
    attention: Any,
    query: Float[Tensor, "rows query"],
    memory: Memory,
    past: AttentionPast | None,
    sampler: AttentionSampler | None,
) -> AttendedStep:
    """Return what the query of each row attends to, without a gate.

    Raises:
        UserError: there is a sampler, but the layer's context is not a weighted sum.
    """
    contexts, alphas = look_at(attention, query.unsqueeze(1), memory, past)
    context, alpha = contexts.squeeze(1), alphas.squeeze(1)
    drawn = SampledWeights(alpha)
    if sampler is not None:
        require_weighted_sum(attention)
        context, drawn = sum_sampled(sampler, alpha, memory.values)
    return AttendedStep(context.to(query.dtype), alpha, drawn.weights, None, drawn.relaxed, drawn.noise)


def step_in_turn(
    decoder: Decoder, inputs: Float[Tensor, "rows time inputs"], state: Any, memory: Memory
) -> tuple[Float[Tensor, "rows time features"], Float[Tensor, "rows time source"], Any]:
    """Compute all steps of known inputs one after the other, by `decoder.step`."""
    steps = []
    for step_inputs in inputs.unbind(1):
        features, alpha, state = decoder.step(step_inputs, state, memory)
        steps.append((features, alpha))
    features, alphas = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
    return features, alphas, state


def attend_in_turn(
    decoder: HardDecoder,
    inputs: Float[Tensor, "rows time inputs"],
    state: Any,
    memory: Memory,
    sampler: AttentionSampler | None = None,
    readout: Float[Tensor, "features memory"] | None = None,
) -> AttendedSteps:
    """Compute all steps of known inputs one after the other, by `decoder.attend_step`.

    Args:
        sampler: of hard attention; alpha itself unless given.
        readout: a matrix with which the contexts are multiplied in the end.
    """
    hidden, attended = [], []
    for step_inputs in inputs.unbind(1):
        state, step = decoder.attend_step(step_inputs, state, memory, sampler)
        hidden.append(state.hidden)
        attended.append(step)
    contexts = torch.stack([step.gated for step in attended], dim=1)
    contexts = contexts if readout is None else functional.linear(contexts, readout)
    drawn = [SampledWeights(step.weights, step.relaxed, step.noise) for step in attended]
    alphas, weights, relaxed, noise = stack_weights([step.alpha for step in attended], drawn)
    return AttendedSteps(torch.stack(hidden, dim=1), contexts, alphas, weights, state, relaxed, noise)
