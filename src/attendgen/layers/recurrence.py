"""Recurrences: the one shared by the attention decoders, and a bidirectional reader of padded sequences."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.errors import UserError
from attendgen.layers.attention import Attention
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
    """What an attentive recurrence did: its states, contexts, attention, and the weights selected from it."""

    hidden: Float[Tensor, "rows time hidden"]
    contexts: Float[Tensor, "rows time memory"]
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
        for layer, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            outputs = self.dropout(outputs) if layer else outputs
            left, _ = ahead(outputs)
            right, _ = back(outputs.take_along_dim(reverse, dim=1))
            final = torch.cat([left.take_along_dim(last, dim=1), right.take_along_dim(last, dim=1)], dim=-1)
            outputs = torch.cat([left, right.take_along_dim(reverse, dim=1)], dim=-1) * mask.unsqueeze(-1)
        return outputs, final.squeeze(1) * (lengths > 0)


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
        with torch.no_grad():
            self.project.bias[hidden : 2 * hidden] = 1.0  # remember at first (Jozefowicz et al. 2015)

    def step(
        self,
        gates: Float[Tensor, "rows gates"],
        state: LSTMState,
        memory: Memory,
        select: Selection | None = None,
    ) -> tuple[LSTMState, Float[Tensor, "rows memory"], Float[Tensor, "rows source"], Float[Tensor, "rows source"]]:
        """One step from the projected input; returns the new state, the context, alpha and the selected weights.

        The context is the memory's sum with the weights that `select` makes of alpha; alpha's own unless given.
        """
        query = state.hidden.unflatten(0, (memory.values.size(0), -1))  # batch query hidden
        context, alpha = self.attention(query, *memory)
        weights = alpha
        if select is not None:
            weights = select(alpha)
            context = weights @ memory.values.to(weights.dtype)
        context = context.flatten(0, 1).to(state.hidden.dtype)
        if self.gate is not None:
            context = torch.sigmoid(self.gate(state.hidden)) * context
        gates = gates + self.recurrent(torch.cat([context, state.hidden], dim=-1))
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state.cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        return LSTMState(hidden, cell), context, alpha.flatten(0, 1), weights.flatten(0, 1)

    def forward(
        self,
        inputs: Float[Tensor, "rows time inputs"],
        state: LSTMState,
        memory: Memory,
        select: Selection | None = None,
    ) -> Steps:
        """All steps of known inputs."""
        steps = []
        for gates in self.project(inputs).unbind(1):
            state, context, alpha, weights = self.step(gates, state, memory, select)
            steps.append((state.hidden, context, alpha, weights))
        hidden, contexts, alphas, selected = zip(*steps, strict=True)
        alpha = torch.stack(alphas, dim=1)
        weights = alpha if select is None else torch.stack(selected, dim=1)
        return Steps(torch.stack(hidden, dim=1), torch.stack(contexts, dim=1), alpha, weights)
