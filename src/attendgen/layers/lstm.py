"""Run an `nn.LSTM` over sequences, in a safe precision and with DropConnect on its recurrent weights."""

from typing import TypeAlias, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

# hidden states and cells; `stacks` = layers x directions
State: TypeAlias = tuple[Float[Tensor, "stacks rows hidden"], Float[Tensor, "stacks rows hidden"]]


@overload
def run_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: State | None = None,
    weight_drop: float = 0.0,
    weights: list[Tensor] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"], State]: ...
@overload
def run_lstm(
    lstm: nn.LSTM,
    inputs: PackedSequence,
    state: State | None = None,
    weight_drop: float = 0.0,
    weights: list[Tensor] | None = None,
) -> tuple[PackedSequence, State]: ...
def run_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"] | PackedSequence,
    state: State | None = None,
    weight_drop: float = 0.0,
    weights: list[Tensor] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"] | PackedSequence, State]:
    """Run an LSTM over batch-first sequences; under a GPU's bfloat16 autocast it runs in float32.

    PyTorch's autocast casts cuDNN's LSTM to float16 whatever its own dtype is (aten/src/ATen/cudnn/AutocastRNN.cpp).
    Lightning scales the loss in `16-mixed` alone, so in `bf16-mixed` small gradients would become zero.

    Args:
        state: the first one; zero by default.
        weight_drop: share of the hidden-to-hidden weights that are zero in training. One mask holds for all rows and
            steps of a call (Merity et al. 2018, 2). Packed inputs need 0.
        weights: of one layer in one direction, in torch's order. This layer alone then runs, forwards, on padded
            inputs, without `weight_drop`.
    """
    autocast = inputs.is_cuda and torch.is_autocast_enabled("cuda")
    if autocast and torch.get_autocast_dtype("cuda") != torch.float16:
        dtype = next(lstm.parameters()).dtype  # float32 in mixed precision
        state = None if state is None else (state[0].to(dtype), state[1].to(dtype))
        with torch.autocast("cuda", enabled=False):
            return run_lstm(lstm, inputs.to(dtype), state, weight_drop, weights)
    if weights is not None:
        layers, bidirectional = 1, False
    elif lstm.training and weight_drop:
        layers, bidirectional = lstm.num_layers, lstm.bidirectional
        weights = [
            functional.dropout(weight, weight_drop) if name.startswith("weight_hh") else weight
            for name, weight in lstm.named_parameters()
        ]
    else:
        return lstm(inputs, state)
    if isinstance(inputs, PackedSequence):
        raise TypeError("packed inputs with weight_drop or weights: expected padded inputs; unpack them")
    if state is None:
        zero = inputs.new_zeros((2 if bidirectional else 1) * layers, len(inputs), lstm.hidden_size)
        state = (zero, zero)
    # the module itself cannot be given other weights than its parameters
    output, hidden, cell = torch.lstm(
        inputs,
        state,
        weights,
        lstm.bias,
        layers,
        lstm.dropout if layers > 1 else 0.0,
        lstm.training,
        bidirectional,
        lstm.batch_first,
    )
    return output, (hidden, cell)
