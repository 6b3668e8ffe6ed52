"""An LSTM's layers one by one: padded sequences without packing, and dropout between layers without cuDNN's.

Packing needs the sequences' lengths on the processor, which waits for the GPU to read them. And cuDNN makes its dropout
state anew after each `torch.manual_seed` (get_dropout_state of aten/src/ATen/native/cudnn/RNN.cpp), which is every step
of a training: the processor waits for it, and no CUDA graph can record it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

HOLD = 1e4  # a pre-activation at which a gate is open or closed, in every precision

LayerState = tuple[Float[Tensor, "1 rows hidden"], Float[Tensor, "1 rows hidden"]]
StackedState = tuple[Float[Tensor, "stacks rows hidden"], Float[Tensor, "stacks rows hidden"]]


def run_layers(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: StackedState | None = None,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"], StackedState]:
    """Run an LSTM over batch-first sequences; return the outputs and the state after each sequence's last token.

    Args:
        state: the first state; zero unless given.
        mask: False at padding; outputs are zero there. It stands on the right of at least one token, or on the left if
            the LSTM reads forwards from a zero state.
    """
    directions = 2 if lstm.bidirectional else 1
    hidden, cells = [], []
    for layer in range(lstm.num_layers):
        if layer:
            inputs = functional.dropout(inputs, lstm.dropout, lstm.training)
        outputs = []
        for direction in range(directions):
            stack = layer * directions + direction
            first = None if state is None else (state[0][stack : stack + 1], state[1][stack : stack + 1])
            weights = get_weights(lstm, layer, direction)
            output, (last, cell) = _run_direction(lstm, inputs, weights, first, mask, bool(direction))
            outputs.append(output)
            hidden.append(last)
            cells.append(cell)
        inputs = torch.cat(outputs, dim=-1) if directions == 2 else outputs[0]
    return inputs, (torch.cat(hidden), torch.cat(cells))


def get_weights(lstm: nn.LSTM, layer: int, direction: int = 0) -> list[Tensor]:
    """Return the weights of a layer in one direction, in torch's order."""
    suffix = f"_l{layer}" + ("_reverse" if direction else "")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if lstm.bias else ("weight_ih", "weight_hh")
    return [getattr(lstm, name + suffix) for name in names]


def _run_direction(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    weights: list[Tensor],
    state: LayerState | None,
    mask: Bool[Tensor, "rows time"] | None,
    backwards: bool,
) -> tuple[Float[Tensor, "rows time hidden"], LayerState]:
    """Run one layer in one direction; backwards, each row's padding stays behind its tokens."""
    if state is None:
        zero = inputs.new_zeros(1, len(inputs), lstm.hidden_size)
        state = (zero, zero)
    order = _reverse_tokens(inputs, mask) if backwards else None
    read = inputs if order is None else inputs.take_along_dim(order, dim=1)
    if mask is not None:
        read, weights = hold_at_padding(read, weights, mask)
    output, hidden, cell = torch.lstm(read, state, weights, lstm.bias, 1, 0.0, lstm.training, False, True)
    if mask is not None:
        time = torch.arange(mask.size(1), device=mask.device)
        last = (time * mask).amax(dim=1).view(-1, 1, 1)
        hidden = output.take_along_dim(last, dim=1).transpose(0, 1)
        output = output * mask.unsqueeze(-1)
    return (output if order is None else output.take_along_dim(order, dim=1)), (hidden, cell)


def _reverse_tokens(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Return the positions of each row's tokens from the last to the first, and then those of its padding."""
    time = torch.arange(inputs.size(1), device=inputs.device)
    if mask is None:
        return time.flip(0).view(1, -1, 1)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - time, time).unsqueeze(-1)


def hold_at_padding(
    inputs: Float[Tensor, "rows time inputs"], weights: list[Tensor], mask: Bool[Tensor, "rows time"]
) -> tuple[Float[Tensor, "rows time more"], list[Tensor]]:
    """Return inputs and weights with one more input, 1 at padding, which keeps the cell as it is.

    It closes the input gate and opens the forget gate. On the left of a text, where the cell is zero, the hidden state
    stays zero, too.
    """
    of_inputs, *rest = weights
    i, f, g, o = of_inputs.new_zeros(4, len(of_inputs) // 4, 1).unbind()
    column = torch.cat([i - HOLD, f + HOLD, g, o])
    padding = (~mask).to(inputs.dtype).unsqueeze(-1)
    return torch.cat([inputs, padding], dim=-1), [torch.cat([of_inputs, column], dim=1), *rest]
