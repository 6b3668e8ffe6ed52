"""What language models share: steps of an LSTM; and if they read on, contexts of several lengths, an empty memory."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.vocabulary import PAD

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of one layer of an `nn.LSTM`, in torch's order


class Nothing(NamedTuple):
    """The memory of a model whose state holds all that it has read."""

    empty: Float[Tensor, "batch 0"]


@runtime_checkable
class Reading(Protocol):
    """A model that reads on from a state."""

    def blank(self, rows: int) -> Any: ...

    def read(self, inputs: Int[Tensor, "rows time"], state: Any) -> tuple[Tensor, Tensor, Any]: ...


def step_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows inputs"],
    hidden: Float[Tensor, "rows layers hidden"],
    cell: Float[Tensor, "rows layers hidden"],
) -> tuple[Float[Tensor, "rows layers hidden"], Float[Tensor, "rows layers hidden"]]:
    """One step, faster than a sequence of one; weights may be in half precision."""
    states = []
    for layer in range(lstm.num_layers):
        weights = [getattr(lstm, f"{name}_l{layer}") for name in WEIGHTS]
        before = (hidden[:, layer].to(inputs.dtype), cell[:, layer].to(inputs.dtype))
        inputs, after = torch.lstm_cell(inputs, before, *weights)
        states.append((inputs, after))
    last, cells = (torch.stack(parts, dim=1) for parts in zip(*states, strict=True))
    return last, cells


def read_padded(model: Reading, context: Int[Tensor, "batch context"], state: Any = None) -> Any:
    """The state after contexts padded on the right, all but the last character of each read; blank before, or given."""
    lengths = (context != PAD).sum(dim=1)
    state = model.blank(len(context)) if state is None else state
    for length in lengths.unique().tolist():
        if length > 1:  # rows of one length at once: a recurrence must not run on over padding
            rows = (lengths == length).nonzero().squeeze(1)
            _, _, read = model.read(context[rows, : length - 1], type(state)(*(part[rows] for part in state)))
            parts = zip(state, read, strict=True)
            state = type(state)(*(whole.index_copy(0, rows, part.to(whole.dtype)) for whole, part in parts))
    return state
