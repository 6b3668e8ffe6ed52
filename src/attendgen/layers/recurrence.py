"""Recurrences: the one shared by the attention decoders, and a bidirectional reader of padded sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from attendgen.errors import UserError
from attendgen.layers.attention import Attention, has_weighted_sum
from attendgen.layers.lstm import run_lstm
from attendgen.layers.selection import Selection


class Memory(NamedTuple):
    """What a decoder attends to, one row an input; made once, never reordered by a search."""

    keys: Float[Tensor, "batch source key"]
    values: Float[Tensor, "batch source memory"]
    mask: Bool[Tensor, "batch source"] | None


class LSTMState(NamedTuple):
    """Hidden and cell state; `rows` is the number of inputs times the hypotheses (or captions) of each.

    A decoder of several layers has `rows layers hidden`.
    """

    hidden: Float[Tensor, "rows *layers hidden"]
    cell: Float[Tensor, "rows *layers hidden"]


class Steps(NamedTuple):
    """What an attentive recurrence did: its states, contexts or their features, attention, and the selected weights."""

    hidden: Float[Tensor, "rows time hidden"]
    contexts: Float[Tensor, "rows time features"]
    alphas: Float[Tensor, "rows time source"]
    weights: Float[Tensor, "rows time source"]


class BidirectionalLSTM(nn.Module):
    """A stack of LSTMs that read right-padded sequences forwards and backwards (Schuster and Paliwal 1997).

    The backward LSTM reads each row's real vectors in reverse and its padding last, so nothing need be packed: the
    outputs are those of a packed `nn.LSTM`, several times faster on a CPU.

    Args:
        inputs, hidden: sizes of the vectors read and of the state in each direction.
        dropout: between layers.
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [inputs, *[2 * hidden] * (layers - 1)]
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "batch time inputs"], mask: Bool[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time outputs"], Float[Tensor, "batch outputs"]]:
        """What every layer's top says at each position, zero at padding, and both directions' last hidden states."""
        lengths = mask.sum(dim=1, keepdim=True)
        time = torch.arange(mask.size(1), device=mask.device).expand_as(mask)
        reverse = torch.where(mask, lengths - 1 - time, time).unsqueeze(-1)
        last = (lengths - 1).clamp(min=0).unsqueeze(-1)
        outputs = inputs
        pairs: list[tuple[Any, Any]] = list(zip(self.forwards, self.backwards, strict=True))  # modules, to mypy
        for layer, (ahead, back) in enumerate(pairs):
            outputs = self.dropout(outputs) if layer else outputs
            left, _ = run_lstm(ahead, outputs)
            right, _ = run_lstm(back, outputs.take_along_dim(reverse, dim=1))
            final = torch.cat([left.take_along_dim(last, dim=1), right.take_along_dim(last, dim=1)], dim=-1)
            outputs = torch.cat([left, right.take_along_dim(reverse, dim=1)], dim=-1) * mask.unsqueeze(-1)
        return outputs, final.squeeze(1) * (lengths > 0)


class _WeightLater(torch.autograd.Function):
    """Passes on what a linear map's outputs are added to; computes the map's weight gradient in one product.

    Back-propagation step by step would add up a gradient of the weight's size at each step. Sums have the same gradient
    in all their terms, so the map may be applied with a detached weight, if its inputs are put down in `read`.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, read: list[Tensor]) -> Tensor:
        ctx.read = read
        ctx.dtype = weight.dtype
        return gates.view_as(gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs = torch.stack(ctx.read, dim=1).to(gradient.dtype)
        return gradient, (gradient.flatten(0, 1).T @ inputs.flatten(0, 1)).to(ctx.dtype), None


class AttentiveLSTM(nn.Module):
    """An LSTM fed [x_t, z_t], where the context z_t is attended with h_{t-1} (Bahdanau et al. 2015; Xu et al. 2015).

    The share of x_t in the gates is computed for all steps at once (`project`). Several state rows may share one row of
    the memory: the memory is then neither copied nor projected again.

    Args:
        inputs, hidden, memory: sizes of x, h and the memory's vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        gate: scale the context by beta_t = sigmoid(W h_{t-1} + b), a "scalar" (Xu et al. 2015, 4.2.1) or a "vector" of
            one number a dimension of the context; "none" leaves it as it is.

    Raises:
        UserError: there is no such gate.
    """

    def __init__(
        self, inputs: int, hidden: int, memory: int, attention: Callable[..., Attention], gate: str = "none"
    ) -> None:
        super().__init__()
        sizes = {"none": 0, "scalar": 1, "vector": memory}
        if gate not in sizes:
            raise UserError(f"model.gate={gate}: unknown; choose one of {', '.join(sizes)}")
        self.hidden = hidden
        self.attention = attention(query=hidden, memory=memory)
        self.project = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(memory + hidden, 4 * hidden, bias=False)
        self.gate = nn.Linear(hidden, sizes[gate]) if sizes[gate] else None
        self.commutes = gate != "vector"  # a number may be multiplied after W_z, too
        with torch.no_grad():
            self.project.bias[hidden : 2 * hidden] = 1.0  # remember at first (Jozefowicz et al. 2015)

    def require_weighted_sum(self) -> None:
        """Check that the attention can be hard: a selection replaces alpha in `alpha @ memory`.

        Raises:
            UserError: the layer does not declare that its context is this product.
        """
        if not has_weighted_sum(self.attention):
            raise UserError(
                f"model.attention: hard attention selects memory vectors, but the context of "
                f"{type(self.attention).__name__} may be something else than alpha @ memory; train soft attention, or "
                "set `context_is_weighted_sum = True` in that class if it is this product"
            )

    def step(
        self,
        gates: Float[Tensor, "rows gates"],
        state: LSTMState,
        memory: Memory,
        select: Selection | None = None,
    ) -> tuple[LSTMState, Float[Tensor, "rows memory"], Float[Tensor, "rows source"], Float[Tensor, "rows source"]]:
        """One step from the projected input; returns the new state, the context, alpha and the selected weights.

        The context is the attention layer's own, or, with `select`, the memory's sum with the weights that `select`
        makes of alpha.

        Raises:
            UserError: there is a `select`, but the layer's context is not a weighted sum.
        """
        context, alpha, weights, beta = self._look(state, memory, select)
        context = context if beta is None else beta * context
        read = torch.cat([context, state.hidden], dim=-1)
        return self._advance(gates + self.recurrent(read), state), context, alpha, weights

    def _look(
        self, state: LSTMState, memory: Memory, select: Selection | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The context before its gate, alpha, the selected weights, and the gate."""
        query = state.hidden.unflatten(0, (memory.values.size(0), -1))  # batch query hidden
        context, alpha = self.attention(query, *memory)
        weights = alpha
        if select is not None:
            self.require_weighted_sum()
            weights = select(alpha)
            context = weights @ memory.values.to(weights.dtype)
        beta = None if self.gate is None else torch.sigmoid(self.gate(state.hidden))
        return context.flatten(0, 1).to(state.hidden.dtype), alpha.flatten(0, 1), weights.flatten(0, 1), beta

    def _advance(self, gates: Float[Tensor, "rows gates"], state: LSTMState) -> LSTMState:
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state.cell + torch.sigmoid(enter) * torch.tanh(new)
        return LSTMState(torch.sigmoid(leave) * torch.tanh(cell), cell)

    def forward(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: LSTMState,
        memory: Memory,
        select: Selection | None = None,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> Steps:
        """All steps of known inputs.

        Args:
            readout: a matrix that the contexts are multiplied by in the end; `contexts` are then its features.
        """
        of_context, of_hidden = self.recurrent.weight.split([memory.values.size(2), self.hidden], dim=1)
        early = self._early(memory, len(inputs) // len(memory.values) * inputs.size(1))
        # W_z sum_l alpha_l a_l = sum_l alpha_l W_z a_l: one product for all steps that look at a memory
        maps = of_context if readout is None else torch.cat([of_context, readout])
        known = memory._replace(values=functional.linear(memory.values, maps)) if early else memory
        weight = of_hidden if early else self.recurrent.weight
        read: list[Tensor] = []
        projected = _WeightLater.apply(self.project(inputs), weight, read)
        weight = weight.detach().to(projected.dtype)
        steps = []
        for gates in projected.unbind(1):
            context, alpha, weights, beta = self._look(state, known, select)
            context = context if beta is None else beta * context
            if early:
                gates, factor = gates + context[:, : gates.size(1)], state.hidden
                context = context[:, gates.size(1) :]
            else:
                factor = torch.cat([context, state.hidden], dim=-1)
            read.append(factor.detach())
            state = self._advance(gates + functional.linear(factor, weight), state)
            steps.append((state.hidden, context, alpha, weights, beta))
        hidden, contexts, alphas, selected, betas = zip(*steps, strict=True)
        alpha = torch.stack(alphas, dim=1)
        weights = alpha if select is None else torch.stack(selected, dim=1)
        if early and readout is None:
            looked = weights.reshape(len(memory.values), -1, weights.size(-1))  # batch query source
            context = (looked @ memory.values.to(looked.dtype)).view(*weights.shape[:2], -1).to(projected.dtype)
            context = context if self.gate is None else torch.stack(betas, dim=1) * context
        else:
            context = torch.stack(contexts, dim=1)
            context = context if early or readout is None else functional.linear(context, readout)
        return Steps(torch.stack(hidden, dim=1), context, alpha, weights)

    def _early(self, memory: Memory, asked: int) -> bool:
        """Return whether W_z may be multiplied with each memory vector, and that is less work than with each context.

        There are `asked` contexts. The work is counted forward, and backward to the weight and, unless it is a
        constant, to what it is multiplied with.
        """
        source, dim = memory.values.shape[1:]
        once = source * (2 + memory.values.requires_grad)
        return self.commutes and has_weighted_sum(self.attention) and once + 3 * asked * source / dim < 3 * asked
