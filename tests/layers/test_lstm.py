import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence

from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from attendgen.layers.decoders import LuongDecoder
from attendgen.layers.lstm import run_lstm
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from helpers.pretended_gpu import Pretence, autocast, lstm_dtypes, pretend

__all__ = ["lstm_dtypes"]  # a fixture

SOURCE = Path(__file__).parents[2] / "src" / "attendgen"
INPUTS, HIDDEN, LAYERS, ROWS, TIME = 3, 4, 2, 2, 5
SIZES = [2, 2, 2, 1, 1]  # rows of each step of packed inputs
State = tuple[torch.Tensor, torch.Tensor]


def make(**options: bool) -> tuple[nn.LSTM, torch.Tensor, State]:
    lstm = nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True, **options)
    stacks = LAYERS * (2 if lstm.bidirectional else 1)
    hidden, cell = torch.randn(2, stacks, ROWS, HIDDEN)
    return lstm, torch.randn(ROWS, TIME, INPUTS), (hidden, cell)


def packed(inputs: torch.Tensor) -> PackedSequence:
    steps = [step[:rows] for rows, step in zip(SIZES, inputs.unbind(1), strict=True)]
    return PackedSequence(torch.cat(steps), torch.tensor(SIZES))


def first_layer(lstm: nn.LSTM) -> list[torch.Tensor]:
    return list(lstm.parameters())[:4]


def run_padded(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs, state)


def run_from_zero(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs)


def run_packed(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    outputs, last = run_lstm(lstm, packed(inputs), state)
    return outputs.data, last


def run_packed_from_zero(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    outputs, last = run_lstm(lstm, packed(inputs))
    return outputs.data, last


def run_dropped(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs, state, weight_drop=1.0)


def run_first_layer(lstm: nn.LSTM, inputs: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
    return run_lstm(lstm, inputs, (state[0][:1], state[1][:1]), weights=first_layer(lstm))


WAYS = [run_padded, run_from_zero, run_packed, run_packed_from_zero, run_dropped, run_first_layer]
Way = Callable[[nn.LSTM, torch.Tensor, State], tuple[torch.Tensor, State]]


def assert_equal(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_nothing_is_dropped_in_evaluation_or_at_share_zero():
    lstm, inputs, state = make()
    expected = lstm(inputs, state)
    assert_equal(run_lstm(lstm, inputs, state, 0.0), expected)
    assert_equal(run_lstm(lstm.eval(), inputs, state, 0.9), expected)


def test_recurrent_weights_alone_are_dropped():
    lstm, inputs, state = make()
    dropped, _ = run_lstm(lstm, inputs, state, 1.0)
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
        lstm.weight_hh_l1.zero_()
    torch.testing.assert_close(dropped, lstm(inputs, state)[0])
    dropped.sum().backward()
    assert not lstm.weight_hh_l0.grad.any()
    assert lstm.weight_ih_l1.grad.any()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_on_a_cpu_it_is_the_plain_module_bit_for_bit(bidirectional, half):
    lstm, inputs, state = make(bidirectional=bidirectional)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        assert_equal(run_lstm(lstm, inputs), lstm(inputs))
        assert_equal(run_lstm(lstm, inputs, state), lstm(inputs, state))
        for first in (None, state):
            outputs, last = run_lstm(lstm, packed(inputs), first)
            expected, expected_last = lstm(packed(inputs), first)
            assert_equal((outputs.data, last), (expected.data, expected_last))


@pytest.mark.parametrize("half", [False, True])
def test_given_weights_are_those_of_one_layer(half):
    lstm, inputs, _ = make(bidirectional=True)
    alone = nn.LSTM(INPUTS, HIDDEN, batch_first=True)
    alone.load_state_dict(dict(zip(alone.state_dict(), first_layer(lstm), strict=True)))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        assert_equal(run_lstm(lstm, inputs, weights=first_layer(lstm)), alone(inputs))


def test_dropped_weights_need_padded_inputs():
    lstm, inputs, _ = make()
    with pytest.raises(TypeError, match="padded"):
        run_lstm(lstm, packed(inputs), weight_drop=0.5)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_pytorch_runs_a_plain_lstm_in_float16_under_bfloat16_autocast(lstm_dtypes):
    with FakeTensorMode():
        lstm = nn.LSTM(INPUTS, HIDDEN, batch_first=True, device="cuda")
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


@pytest.mark.parametrize("before", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_it_runs_in_float32_under_bfloat16_autocast(lstm_dtypes: list[torch.dtype], way: Way, before: torch.dtype):
    lstm, *given = make()
    inputs, hidden, cell = (part.to(before) for part in (given[0], *given[1]))
    expected, _ = way(lstm, inputs.float(), (hidden.float(), cell.float()))
    pretend(lstm)
    for autocast_dtype, dtype in ((torch.bfloat16, torch.float32), (torch.float16, torch.float16)):
        lstm_dtypes.clear()
        with Pretence(), autocast(autocast_dtype):
            outputs, last = way(lstm, pretend(inputs), (pretend(hidden), pretend(cell)))
            assert torch.is_autocast_enabled("cuda")
        assert lstm_dtypes == [dtype]
        assert {part.dtype for part in (outputs, *last)} == {dtype}
        tolerance = 1e-6 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(outputs.held.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_without_autocast_it_keeps_its_dtype(lstm_dtypes: list[torch.dtype], dtype: torch.dtype):
    lstm, inputs, (hidden, cell) = make()
    pretend(lstm.to(dtype))
    with Pretence():
        run_lstm(lstm, pretend(inputs.to(dtype)), (pretend(hidden.to(dtype)), pretend(cell.to(dtype))))
    assert lstm_dtypes == [dtype]


SYMBOLS = 9
SMALL = {"embedding_dim": 5, "hidden": 6}
READER = {**SMALL, "attention_window": 3, "attention_dim": 4, "weight_drop": 0.5, "dropout": 0.5}
Seq = partial(Seq2Seq, SYMBOLS, SYMBOLS, dropout=0.5, **SMALL)
MODELS = {
    "seq2seq": partial(Seq, DotAttention),
    "seq2seq, both ways": partial(Seq, partial(AdditiveAttention, dim=4), bidirectional=True, layers=2),
    "seq2seq, luong": partial(Seq, GeneralAttention, partial(LuongDecoder, layers=2), bidirectional=True, tied=True),
    "seq2seq, luong, not fed": partial(Seq, GeneralAttention, partial(LuongDecoder, input_feeding=False), layers=2),
    "context": partial(ContextLanguageModel, SYMBOLS, GeneralAttention, encoder_hidden=4, **READER),
    "causal": partial(LSTMLanguageModel, SYMBOLS, ngrams=3, ngram_rows=16, tied=True, **READER),
    "textgenerate": partial(TextGenerateLanguageModel, SYMBOLS, hidden=6),
}
CONTEXTS = {
    "full": [[3, 4, 5, 6], [7, 3, 3, 8]],
    "padded": [[3, 4, 5, 6], [7, 3, 0, 0]],
}


def write(model: nn.Module, context: torch.Tensor, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Logits of known tokens, then log-probabilities of the same, step by step."""
    logits, _ = model(context, tokens)
    memory, state = model.encode(context)
    steps = []
    for token in tokens.unbind(1):
        log_probs, _, state = model.step(token, state, memory)
        steps.append(log_probs)
    return [logits, torch.stack(steps, dim=1)]


def on_cpu(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.held.float() for tensor in tensors]


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_no_model_runs_an_lstm_in_float16_under_bfloat16_autocast(
    lstm_dtypes: list[torch.dtype], make_model: Callable[[], nn.Module], context: list[list[int]]
):
    model, source, tokens = make_model().eval(), torch.tensor(context), torch.randint(3, SYMBOLS, (2, 4))
    expected = write(model, source, tokens)
    pretend(model)
    for dtype, used in ((torch.bfloat16, torch.float32), (torch.float16, torch.float16)):
        lstm_dtypes.clear()
        with Pretence(), autocast(dtype):
            actual = write(model.eval(), pretend(source), pretend(tokens))
            model.train()(pretend(source), pretend(tokens))
        assert set(lstm_dtypes) == {used}
        torch.testing.assert_close(on_cpu(actual), expected, atol=0.02, rtol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_gradients_on_a_gpu_under_bfloat16_autocast_equal_those_in_float64(way: Way):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    lstm, inputs, state = make()
    exact, single = deepcopy(lstm).double(), lstm.cuda()
    weighting = torch.randn(ROWS, TIME, HIDDEN, dtype=torch.float64).view(-1, HIDDEN)

    def backward(outputs: torch.Tensor) -> None:
        outputs = outputs.reshape(-1, HIDDEN).double()
        # as small as in a mean over a large batch; below what float16 can hold
        (outputs * weighting[: len(outputs)].to(outputs.device)).sum().mul(1e-8).backward()

    backward(way(exact, inputs.double(), (state[0].double(), state[1].double()))[0])
    with torch.autocast("cuda", torch.bfloat16):
        outputs, last = way(single, inputs.cuda(), (state[0].cuda(), state[1].cuda()))
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
def test_who_makes_an_lstm_runs_it_by_run_lstm(path: Path):
    source = path.read_text(encoding="utf-8")
    if path == SOURCE / "layers" / "lstm.py":
        assert "torch.lstm(" in source
        return
    assert not re.search(r"\btorch\.lstm\(|\b_VF\b", source)
    if re.search(r"\bnn\.LSTM\(", source):
        assert "import run_lstm" in source
