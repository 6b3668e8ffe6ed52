"""DropConnect on an LSTM's recurrent weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def run_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: tuple[Float[Tensor, "layers rows hidden"], Float[Tensor, "layers rows hidden"]],
    weight_drop: float = 0.0,
) -> tuple[
    Float[Tensor, "rows time hidden"], tuple[Float[Tensor, "layers rows hidden"], Float[Tensor, "layers rows hidden"]]
]:
    """An LSTM over a batch-first sequence; in training a share of its hidden-to-hidden weights is zero throughout.

    One mask holds for all rows and steps of a call (Merity et al. 2018, 2).
    """
    if not (lstm.training and weight_drop):
        return lstm(inputs, state)
    weights = [
        functional.dropout(weight, weight_drop) if name.startswith("weight_hh") else weight
        for name, weight in lstm.named_parameters()
    ]
    # the module itself cannot be given other weights than its parameters
    output, hidden, cell = torch.lstm(
        inputs,
        state,
        weights,
        lstm.bias,
        lstm.num_layers,
        lstm.dropout,
        True,
        lstm.bidirectional,
        lstm.batch_first,
    )
    return output, (hidden, cell)
