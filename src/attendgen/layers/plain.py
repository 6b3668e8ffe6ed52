"""Plain autograd: models whose gradients can be differentiated again, and transformed by `torch.func`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.lstm_layers import get_weights

FAST_PATHS = ("fast", "fused")  # attributes of modules that have a plain way, too


def use_plain_autograd(model: nn.Module) -> None:
    """Let a model and its parts follow their equations by differentiable functions of torch alone.

    Fast paths have gradients that cannot be differentiated again, and cuDNN's LSTM, too. Packed sequences and the
    kernels of LSTMs cannot be vectorized by `torch.func.vmap`.
    """
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            setattr(module, "fast", False)  # noqa: B010  # which `nn.LSTM` does not declare
        for name in FAST_PATHS:
            if hasattr(module, name):
                setattr(module, name, False)


def is_plain(lstm: nn.LSTM) -> bool:
    """Return whether an LSTM follows its equations."""
    return not getattr(lstm, "fast", True)


def run_equations(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: tuple[Tensor, Tensor] | None = None,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"], tuple[Tensor, Tensor]]:
    """Run an LSTM step by step: all layers, in both directions if it has them.

    [i, f, g, o] = W_x x_t + W_h h_{t-1} + b; c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(c_t).

    Args:
        state: the first state, `stacks rows hidden` each; zero unless given.
        mask: False at padding, at the end of rows: the state stays as it is, and the outputs are zero.
    """
    directions = 2 if lstm.bidirectional else 1
    if state is None:
        zeros = inputs.new_zeros(lstm.num_layers * directions, len(inputs), lstm.hidden_size)
        state = (zeros, zeros)
    hidden, cells = [], []
    for layer in range(lstm.num_layers):
        if layer:
            inputs = functional.dropout(inputs, lstm.dropout, lstm.training)
        outputs = []
        for direction in range(directions):
            stack = layer * directions + direction
            weights = get_weights(lstm, layer, direction)
            first = (state[0][stack], state[1][stack])
            output, (last, cell) = run_layer(inputs, weights, first, mask, bool(direction))
            outputs.append(output)
            hidden.append(last)
            cells.append(cell)
        inputs = torch.cat(outputs, dim=-1)
    return inputs, (torch.stack(hidden), torch.stack(cells))


def run_layer(
    inputs: Float[Tensor, "rows time inputs"],
    weights: list[Tensor],
    state: tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]],
    mask: Bool[Tensor, "rows time"] | None = None,
    backwards: bool = False,
) -> tuple[Float[Tensor, "rows time hidden"], tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]]:
    """Run one layer in one direction, with its weights in torch's order."""
    read = functional.linear(inputs, weights[0])
    for bias in weights[2:]:
        read = read + bias
    hidden, cell = state
    outputs: list[Tensor] = []
    times = range(inputs.size(1))
    for t in reversed(times) if backwards else times:
        i, f, g, o = (read[:, t] + functional.linear(hidden, weights[1])).chunk(4, dim=-1)
        after = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        output = torch.sigmoid(o) * torch.tanh(after)
        if mask is None:
            hidden, cell = output, after
        else:
            real = mask[:, t].unsqueeze(-1)
            hidden, cell = torch.where(real, output, hidden), torch.where(real, after, cell)
            output = torch.where(real, output, 0.0)
        outputs.append(output)
    return torch.stack(outputs[::-1] if backwards else outputs, dim=1), (hidden, cell)
