import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence

from attendgen.layers.lstm import BidirectionalLSTM, read_lstm, run_lstm, step_lstm, tie_weights
from attendgen.layers.lstm_layers import run_layers
from attendgen.layers.state import LSTMState
from helpers.pretended_gpu import Pretence, autocast, lstm_dtypes, pretend

__all__ = ["lstm_dtypes"]  # a fixture

SOURCE = Path(__file__).parents[2] / "src" / "attendgen"
INPUTS, HIDDEN, LAYERS, ROWS, TIME = 3, 4, 2, 2, 5
SIZES = [2, 2, 2, 1, 1]  # rows of each step of packed inputs
State = tuple[torch.Tensor, torch.Tensor]


def make_lstm(**options: bool) -> tuple[nn.LSTM, torch.Tensor, State]:
    lstm = nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True, **options)
    stacks = LAYERS * (2 if lstm.bidirectional else 1)
    hidden, cell = torch.randn(2, stacks, ROWS, HIDDEN)
    return lstm, torch.randn(ROWS, TIME, INPUTS), (hidden, cell)


def pack(inputs: torch.Tensor) -> PackedSequence:
    steps = [step[:rows] for rows, step in zip(SIZES, inputs.unbind(1), strict=True)]
    return PackedSequence(torch.cat(steps), torch.tensor(SIZES))


def first_layer(lstm: nn.LSTM) -> list[torch.Tensor]:
    return list(lstm.parameters())[:4]


def run_padded(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs, state)


def run_from_zero(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs)


def run_packed(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    outputs, last = run_lstm(lstm, pack(inputs), state)
    return outputs.data, last


def run_packed_from_zero(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    outputs, last = run_lstm(lstm, pack(inputs))
    return outputs.data, last


def run_first_layer(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs, (state[0][:1], state[1][:1]), weights=first_layer(lstm))


RUNS = [run_padded, run_from_zero, run_packed, run_packed_from_zero, run_first_layer]
Run = Callable[[nn.LSTM, torch.Tensor, State], tuple[torch.Tensor, State]]


def assert_equal(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_on_a_cpu_the_results_are_those_of_the_plain_module(bidirectional, half):
    lstm, inputs, state = make_lstm(bidirectional=bidirectional)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        assert_equal(run_lstm(lstm, inputs), lstm(inputs))
        assert_equal(run_lstm(lstm, inputs, state), lstm(inputs, state))
        for first in (None, state):
            outputs, last = run_lstm(lstm, pack(inputs), first)
            expected, expected_last = lstm(pack(inputs), first)
            assert_equal((outputs.data, last), (expected.data, expected_last))


@pytest.mark.parametrize("half", [False, True])
def test_given_weights_are_run_as_one_layer(half):
    lstm, inputs, _ = make_lstm(bidirectional=True)
    alone = nn.LSTM(INPUTS, HIDDEN, batch_first=True)
    alone.load_state_dict(dict(zip(alone.state_dict(), first_layer(lstm), strict=True)))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        assert_equal(run_lstm(lstm, inputs, weights=first_layer(lstm)), alone(inputs))


def test_given_weights_need_padded_inputs():
    lstm, inputs, _ = make_lstm()
    with pytest.raises(TypeError, match="padded"):
        run_lstm(lstm, pack(inputs), weights=first_layer(lstm))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_state_of_rows_is_that_of_torch_with_layers_first(layers):
    lstm = nn.LSTM(INPUTS, HIDDEN, layers, batch_first=True)
    inputs, hidden, cell = torch.randn(ROWS, TIME, INPUTS), *torch.randn(2, ROWS, layers, HIDDEN)
    expected, last = lstm(inputs, (hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous()))
    outputs, state = read_lstm(lstm, inputs, LSTMState(hidden, cell))
    assert_equal(outputs, expected)
    assert_equal(tuple(state), tuple(part.transpose(0, 1) for part in last))


@pytest.mark.parametrize("layers", [1, 2])
def test_single_steps_equal_a_sequence(layers):
    lstm = nn.LSTM(INPUTS, HIDDEN, layers, batch_first=True)
    inputs = torch.randn(ROWS, TIME, INPUTS)
    state = LSTMState(*torch.randn(2, ROWS, layers, HIDDEN))
    outputs, last = read_lstm(lstm, inputs, state)
    for t in range(TIME):
        state = step_lstm(lstm, inputs[:, t], state)
        torch.testing.assert_close(state.hidden[:, -1], outputs[:, t])
    torch.testing.assert_close(tuple(state), tuple(last))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bidirectional_lstm_equals_torchs_packed_lstm(layers):
    ours = BidirectionalLSTM(INPUTS, HIDDEN, layers)
    theirs = torch.nn.LSTM(INPUTS, HIDDEN, layers, batch_first=True, bidirectional=True)
    for layer in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            for direction, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
                getattr(theirs, f"{name}_l{layer}{suffix}").data.copy_(getattr(direction[layer], f"{name}_l0").data)
    lengths = torch.tensor([4, 5, 1, 5])
    x, mask = torch.randn(4, TIME, INPUTS), torch.arange(TIME) < lengths.unsqueeze(1)
    outputs, final = ours(x, mask)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, (hidden, _) = theirs(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(final, torch.cat([hidden[-2], hidden[-1]], dim=-1))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_without_packing_equal_torchs_packed_lstm(layers, bidirectional, bias):
    lstm = nn.LSTM(INPUTS, HIDDEN, layers, bias, batch_first=True, bidirectional=bidirectional).double()
    lengths = torch.tensor([4, 5, 1, 5])
    x, mask = torch.randn(4, TIME, INPUTS).double().requires_grad_(), torch.arange(TIME) < lengths.unsqueeze(1)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, state = lstm(packed)
    expected = (nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)[0], *state)
    outputs, state = run_layers(lstm, x, mask=mask)
    found = (outputs, *state)
    torch.testing.assert_close(found, expected)
    weightings = [torch.randn_like(part) for part in found]
    gradients = []
    for parts in (found, expected):
        loss = sum((w * part).sum() for w, part in zip(weightings, parts, strict=True))
        gradients.append(torch.autograd.grad(loss, [x, *lstm.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_one_by_one_equal_the_lstm(bidirectional):
    lstm = nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True, bidirectional=bidirectional)
    inputs, state = torch.randn(ROWS, TIME, INPUTS), tuple(torch.randn(2, 4 if bidirectional else 2, ROWS, HIDDEN))
    torch.testing.assert_close(run_layers(lstm, inputs, state), lstm(inputs, state))


def test_dropout_between_layers_follows_torchs_seed(monkeypatch):
    monkeypatch.setattr("attendgen.layers.lstm.is_on_gpu", lambda tensor: True)
    lstm, inputs = nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True, dropout=0.5), torch.randn(ROWS, TIME, INPUTS)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(run_lstm(lstm, inputs)[0])
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(run_lstm(lstm.eval(), inputs), lstm(inputs))


def test_rows_of_padding_alone_give_zeros():
    outputs, final = BidirectionalLSTM(INPUTS, HIDDEN)(torch.randn(1, 3, INPUTS), torch.zeros(1, 3, dtype=torch.bool))
    assert not outputs.any()
    assert not final.any()


def test_tied_weights_are_one_parameter_and_give_logits_of_unit_variance():
    embedding, output = nn.Embedding(5000, 64, padding_idx=0), nn.Linear(64, 5000)
    tie_weights(output, embedding)
    assert output.weight is embedding.weight
    assert not embedding.weight[0].any()
    logits = torch.randn(20, 64) @ output.weight.T
    assert abs(logits.std().item() - 1) < 0.1


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_pytorch_runs_a_plain_lstm_in_float16_under_bfloat16_autocast(lstm_dtypes):
    with FakeTensorMode():
        try:
            lstm = nn.LSTM(INPUTS, HIDDEN, batch_first=True, device="cuda")
        except RuntimeError as error:
            if "CUDA driver" not in str(error):
                raise
            pytest.skip("this PyTorch draws the weights of a pretended GPU on a real one")
        inputs = torch.zeros(ROWS, TIME, INPUTS, device="cuda")
        with autocast(torch.bfloat16):
            assert nn.functional.linear(inputs, lstm.weight_ih_l0).dtype == torch.bfloat16
            try:
                lstm(inputs)
            except RuntimeError as error:
                if "CUDA driver" not in str(error):
                    raise
                pytest.skip("this PyTorch's autocast does not cast weights to float16; is run_lstm still needed?")
    if lstm_dtypes != [torch.float16]:
        pytest.skip(f"this PyTorch's autocast runs cuDNN's LSTM in {lstm_dtypes[0]}; is run_lstm still needed?")


@pytest.mark.parametrize("dtype_before", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("run", RUNS)
@torch.no_grad()
def test_an_lstm_runs_in_float32_under_bfloat16_autocast(
    lstm_dtypes: list[torch.dtype], run: Run, dtype_before: torch.dtype
):
    lstm, *given = make_lstm()
    inputs, hidden, cell = (part.to(dtype_before) for part in (given[0], *given[1]))
    expected, _ = run(lstm, inputs.float(), (hidden.float(), cell.float()))
    pretend(lstm)
    for autocast_dtype, dtype in ((torch.bfloat16, torch.float32), (torch.float16, torch.float16)):
        lstm_dtypes.clear()
        with Pretence(), autocast(autocast_dtype):
            outputs, last = run(lstm, pretend(inputs), (pretend(hidden), pretend(cell)))
            assert torch.is_autocast_enabled("cuda")
        assert lstm_dtypes == [dtype]
        assert {part.dtype for part in (outputs, *last)} == {dtype}
        tolerance = 1e-6 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(outputs.held.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_without_autocast_an_lstm_keeps_its_dtype(lstm_dtypes: list[torch.dtype], dtype: torch.dtype):
    lstm, inputs, (hidden, cell) = make_lstm()
    pretend(lstm.to(dtype))
    with Pretence():
        run_lstm(lstm, pretend(inputs.to(dtype)), (pretend(hidden.to(dtype)), pretend(cell.to(dtype))))
    assert lstm_dtypes == [dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("run", RUNS)
def test_gradients_on_a_gpu_under_bfloat16_autocast_equal_those_in_float64(run: Run):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    lstm, inputs, state = make_lstm()
    exact, single = deepcopy(lstm).double(), lstm.cuda()
    weighting = torch.randn(ROWS, TIME, HIDDEN, dtype=torch.float64).view(-1, HIDDEN)

    def backward(outputs: torch.Tensor) -> None:
        outputs = outputs.reshape(-1, HIDDEN).double()
        # as small as in a mean over a large batch: float16 cannot represent it
        (outputs * weighting[: len(outputs)].to(outputs.device)).sum().mul(1e-8).backward()

    backward(run(exact, inputs.double(), (state[0].double(), state[1].double()))[0])
    with torch.autocast("cuda", torch.bfloat16):
        outputs, last = run(single, inputs.cuda(), (state[0].cuda(), state[1].cuda()))
    assert {part.dtype for part in (outputs, *last)} == {torch.float32}
    backward(outputs)
    for (name, weight), reference in zip(single.named_parameters(), exact.parameters(), strict=True):
        if reference.grad is None:  # of another layer
            assert weight.grad is None, name
            continue
        assert weight.grad.dtype == torch.float32
        error = (weight.grad.cpu().double() - reference.grad).norm()
        assert error <= 0.01 * reference.grad.norm(), name  # TF32 has ten bits of fraction


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_modules_with_an_lstm_run_it_in_a_safe_precision(path: Path):
    source = path.read_text(encoding="utf-8")
    if path in (SOURCE / "layers/lstm.py", SOURCE / "layers/lstm_layers.py"):  # the first one calls the second
        assert "torch.lstm(" in source
        return
    assert not re.search(r"\btorch\.lstm\(|\b_VF\b", source)
    if re.search(r"\bnn\.LSTM\(", source):
        assert re.search(r"from attendgen\.layers\.lstm import .*\b(run_lstm|read_lstm|read_padded)\b", source)
