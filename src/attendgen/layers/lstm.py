"""LSTMs over sequences: in a safe precision, in both directions, and step by step."""

from typing import Any, TypeAlias, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from attendgen.layers.devices import is_on_gpu
from attendgen.layers.fast_paths import is_unchanged
from attendgen.layers.lstm_layers import get_weights, hold_at_padding, run_layers
from attendgen.layers.plain import is_plain, run_equations, run_layer
from attendgen.layers.state import LSTMState

# hidden states and cells as torch returns them; `stacks` = layers x directions
TorchState: TypeAlias = tuple[Float[Tensor, "stacks rows hidden"], Float[Tensor, "stacks rows hidden"]]


@overload
def run_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: TorchState | None = None,
    weights: list[Tensor] | None = None,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"], TorchState]: ...
@overload
def run_lstm(
    lstm: nn.LSTM,
    inputs: PackedSequence,
    state: TorchState | None = None,
    weights: list[Tensor] | None = None,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[PackedSequence, TorchState]: ...
def run_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"] | PackedSequence,
    state: TorchState | None = None,
    weights: list[Tensor] | None = None,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[Float[Tensor, "rows time outputs"] | PackedSequence, TorchState]:
    """Run an LSTM over batch-first sequences; under a GPU's bfloat16 autocast it runs in float32.

    PyTorch's autocast casts cuDNN's LSTM to float16 whatever its own dtype is (aten/src/ATen/cudnn/AutocastRNN.cpp).
    Lightning scales the loss in `16-mixed` alone, so in `bf16-mixed` small gradients would become zero.

    Args:
        state: the first state; zero unless given.
        weights: of one layer in one direction, in torch's order. Only this layer runs then, forwards, on padded inputs.
        mask: of padded inputs, see `run_layers`. With `weights` padding stands on the left, and the state is zero.

    Raises:
        TypeError: packed inputs come with `weights` or a mask.
    """
    if isinstance(inputs, PackedSequence) and not (weights is None and mask is None):
        raise TypeError("packed inputs with weights: expected padded inputs; unpack them")
    autocast = inputs.is_cuda and torch.is_autocast_enabled("cuda")
    if autocast and torch.get_autocast_dtype("cuda") != torch.float16:
        dtype = next(lstm.parameters()).dtype  # float32 in mixed precision
        state = None if state is None else (state[0].to(dtype), state[1].to(dtype))
        with torch.autocast("cuda", enabled=False):
            return run_lstm(lstm, inputs.to(dtype), state, weights, mask)
    if weights is None:
        if isinstance(inputs, Tensor) and is_plain(lstm):
            return run_equations(lstm, inputs, state, mask)
        drops = bool(lstm.dropout) and lstm.training
        if isinstance(inputs, Tensor) and (mask is not None or (drops and is_on_gpu(inputs))):
            return run_layers(lstm, inputs, state, mask)
        return lstm(inputs, state)
    assert isinstance(inputs, Tensor)
    if mask is not None:
        inputs, weights = hold_at_padding(inputs, weights, mask)
    if state is None:
        zero = inputs.new_zeros(1, len(inputs), lstm.hidden_size)
        state = (zero, zero)
    if is_plain(lstm):
        output, (hidden, cell) = run_layer(inputs, weights, (state[0][0], state[1][0]))
        return output, (hidden.unsqueeze(0), cell.unsqueeze(0))
    # the module itself cannot be given other weights than its parameters
    output, hidden, cell = torch.lstm(inputs, state, weights, lstm.bias, 1, 0.0, lstm.training, False, lstm.batch_first)
    return output, (hidden, cell)


def read_padded(
    lstm: nn.LSTM, inputs: Float[Tensor, "rows time inputs"], mask: Bool[Tensor, "rows time"]
) -> tuple[Float[Tensor, "rows time outputs"], TorchState]:
    """Run an LSTM over right-padded sequences: return the outputs, zero at padding, and the state after the last token.

    A sequence without a token is read as one padding token.
    """
    lengths = mask.sum(dim=1).clamp(min=1)
    if is_plain(lstm) or (is_on_gpu(inputs) and is_unchanged(lstm, nn.LSTM)):
        real = torch.arange(mask.size(1), device=mask.device) < lengths.unsqueeze(1)
        return run_equations(lstm, inputs, mask=real) if is_plain(lstm) else run_lstm(lstm, inputs, mask=real)
    if bool(mask.all()):  # full windows, as nearly all in a language model's training, run faster unpacked
        return run_lstm(lstm, inputs)
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    outputs, state = run_lstm(lstm, packed)
    values, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=mask.size(1))
    return values, state


def read_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "rows time inputs"],
    state: LSTMState,
    mask: Bool[Tensor, "rows time"] | None = None,
) -> tuple[Float[Tensor, "rows time hidden"], LSTMState]:
    """Run an LSTM from a batch-first state of `rows layers hidden`; return all outputs and the new state.

    Args:
        mask: see `run_layers`.
    """
    before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
    outputs, (hidden, cell) = run_lstm(lstm, inputs, before, mask=mask)
    return outputs, LSTMState(hidden.transpose(0, 1), cell.transpose(0, 1))


def update_cell(
    gates: Float[Tensor, "rows gates"], more: Float[Tensor, "rows gates"], cell: Float[Tensor, "rows hidden"]
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]:
    """Return h_t and c_t, given two summands of the gates' pre-activations [i, f, g, o] and c_{t-1}.

    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g); h_t = sigmoid(o) tanh(c_t).
    """
    if is_on_gpu(gates):  # one kernel instead of ten
        hidden, cell, _ = torch.ops.aten._thnn_fused_lstm_cell(gates, more, cell)
        return hidden, cell
    i, f, g, o = (gates + more).chunk(4, dim=-1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def step_lstm(lstm: nn.LSTM, inputs: Float[Tensor, "rows inputs"], state: LSTMState) -> LSTMState:
    """Compute one step, faster than a sequence of one; weights may be in half precision."""
    if is_plain(lstm) or not is_unchanged(lstm, nn.LSTM):
        before = LSTMState(*(part.to(inputs.dtype) for part in state))
        return read_lstm(lstm, inputs.unsqueeze(1), before)[1]
    hidden, cells = [], []
    for layer in range(lstm.num_layers):
        weights = get_weights(lstm, layer)
        given = (state.hidden[:, layer].to(inputs.dtype), state.cell[:, layer].to(inputs.dtype))
        inputs, cell = torch.lstm_cell(inputs, given, *weights)
        hidden.append(inputs)
        cells.append(cell)
    return LSTMState(torch.stack(hidden, dim=1), torch.stack(cells, dim=1))


class BidirectionalLSTM(nn.Module):
    """A stack of LSTMs that read right-padded sequences forwards and backwards (Schuster and Paliwal 1997).

    The backward LSTM reads each row's real vectors in reverse and its padding last, so no sequence is packed: the
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
        """Return the outputs of the top layer, zero at padding, and both directions' last hidden states."""
        lengths = mask.sum(dim=1, keepdim=True)
        time = torch.arange(mask.size(1), device=mask.device).expand_as(mask)
        reverse = torch.where(mask, lengths - 1 - time, time).unsqueeze(-1)
        last = (lengths - 1).clamp(min=0).unsqueeze(-1)
        outputs, final = inputs, inputs.new_zeros(len(inputs), 1, 0)
        pairs: list[tuple[Any, Any]] = list(zip(self.forwards, self.backwards, strict=True))  # modules, to mypy
        for layer, (forward, backward) in enumerate(pairs):
            outputs = self.dropout(outputs) if layer else outputs
            left, _ = run_lstm(forward, outputs)
            right, _ = run_lstm(backward, outputs.take_along_dim(reverse, dim=1))
            final = torch.cat([left.take_along_dim(last, dim=1), right.take_along_dim(last, dim=1)], dim=-1)
            outputs = torch.cat([left, right.take_along_dim(reverse, dim=1)], dim=-1) * mask.unsqueeze(-1)
        return outputs, final.squeeze(1) * (lengths > 0)


def tie_weights(output: nn.Linear, embedding: nn.Embedding) -> None:
    """Let an output layer share an embedding's weights (Press and Wolf 2017).

    The weights are initialized so that the logits have unit variance at first.
    """
    nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
    if embedding.padding_idx is not None:
        with torch.no_grad():
            embedding.weight[embedding.padding_idx] = 0.0
    output.weight = embedding.weight
