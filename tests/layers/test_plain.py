"""Plain autograd: the same results, gradients of gradients, and `torch.func`."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from attendgen.data.batch import pad
from attendgen.layers import (
    AdditiveAttention,
    BahdanauDecoder,
    BidirectionalLSTM,
    CoverageAttention,
    LuongDecoder,
    use_plain_autograd,
)
from attendgen.layers.lstm import read_padded, run_lstm, step_lstm
from attendgen.layers.plain import run_equations
from attendgen.layers.state import LSTMState, iterate_tensors
from attendgen.models import Captioner, ContextLanguageModel, LSTMLanguageModel, Seq2Seq, SmallCNN
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.testing import check_model

VOCAB_SIZE, DIM = 7, 4
SMALL = {"embedding_dim": 3, "hidden": 4}
Seq = partial(Seq2Seq, VOCAB_SIZE, VOCAB_SIZE, AdditiveAttention, **SMALL)
TEXTS = {
    "seq2seq": Seq,
    "seq2seq, both directions": partial(Seq, bidirectional=True, layers=2),
    "seq2seq, luong": partial(Seq, LuongDecoder, layers=2),
    "seq2seq, luong, one layer": partial(Seq, partial(LuongDecoder, bias=True), bidirectional=True),
    "context": partial(ContextLanguageModel, VOCAB_SIZE, AdditiveAttention, encoder_hidden=2, **SMALL),
    "context, coverage": partial(
        ContextLanguageModel, VOCAB_SIZE, CoverageAttention, encoder_hidden=2, decoder=BahdanauDecoder, **SMALL
    ),
    "lstm": partial(LSTMLanguageModel, VOCAB_SIZE, layers=2, attention_window=2, attention_dim=2, **SMALL),
}
MODELS = {
    **TEXTS,
    "captioner": lambda **options: Captioner(VOCAB_SIZE, SmallCNN((DIM,), 8), AdditiveAttention, **SMALL, **options),
}


def make(name: str, fast: bool) -> nn.Module:
    torch.manual_seed(1)
    model = MODELS[name](fast=fast).double().eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def make_batch(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    if name == "captioner":
        return torch.randn(2, 3, DIM, dtype=torch.double), torch.randint(1, VOCAB_SIZE, (2, 1, 3))
    return pad([[3, 4, 5], [6]]), torch.randint(1, VOCAB_SIZE, (2, 3))


def loss(model: nn.Module, parameters: dict, inputs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    logits, _ = functional_call(model, parameters, (inputs, tokens))
    return logits.log_softmax(dim=-1)[..., 2].square().sum()


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_way_gives_the_same_results_and_gradients(name):
    inputs, tokens = make_batch(name)
    found = []
    for fast in (True, False):
        model = make(name, fast)
        parameters = dict(model.named_parameters())
        value = loss(model, parameters, inputs, tokens)
        found.append((value, torch.autograd.grad(value, list(parameters.values()), materialize_grads=True)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_can_be_differentiated_again(name):
    model, (inputs, tokens) = make(name, fast=False), make_batch(name)
    named = dict(model.named_parameters())
    value = loss(model, named, inputs, tokens)
    gradients = torch.autograd.grad(value, list(named.values()), create_graph=True, materialize_grads=True)
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
    second = torch.autograd.grad(norm, list(named.values()), materialize_grads=True)
    directions = [torch.randn_like(parameter) for parameter in named.values()]

    def norm_at(step: float) -> torch.Tensor:
        moved = {
            key: (part + step * d).detach().requires_grad_()
            for (key, part), d in zip(named.items(), directions, strict=True)
        }
        values = torch.autograd.grad(loss(model, moved, inputs, tokens), list(moved.values()), materialize_grads=True)
        return torch.stack([part.square().sum() for part in values]).sum()

    expected = (norm_at(1e-5) - norm_at(-1e-5)) / 2e-5
    slope = sum((part * d).sum() for part, d in zip(second, directions, strict=True))
    torch.testing.assert_close(slope, expected, rtol=2e-4, atol=1e-6)  # some scores are in single precision


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seq2seq", "captioner"])
def test_gradgradcheck_of_some_parameters(name):
    model, (inputs, tokens) = make(name, fast=False), make_batch(name)
    chosen = ("decoder.attention.score.weight", "decoder.recurrent_gates.weight")
    given = [model.get_parameter(part) for part in chosen]

    def compute(*parts: torch.Tensor) -> torch.Tensor:
        return loss(model, dict(zip(chosen, parts, strict=True)), inputs, tokens)

    assert torch.autograd.gradgradcheck(compute, given)


@pytest.mark.parametrize("name", ["seq2seq", "captioner"])
def test_fast_paths_refuse_second_derivatives(name):
    model, (inputs, tokens) = make(name, fast=True), make_batch(name)
    named = dict(model.named_parameters())
    value = loss(model, named, inputs, tokens)
    gradients = torch.autograd.grad(value, list(named.values()), create_graph=True, materialize_grads=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.stack([gradient.square().sum() for gradient in gradients]).sum().backward()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "lstm"])
def test_per_example_gradients_by_vmap_equal_a_loop(name):
    model, (inputs, tokens) = make(name, fast=False), make_batch(name)
    named = {key: part.detach() for key, part in model.named_parameters()}

    def alone(parameters: dict, source: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return loss(model, parameters, source.unsqueeze(0), text.unsqueeze(0))

    together = vmap(grad(alone), in_dims=(None, 0, 0))(named, inputs, tokens)
    for row in range(len(inputs)):
        single = grad(alone)(named, inputs[row], tokens[row])
        torch.testing.assert_close({key: part[row] for key, part in together.items()}, single)


def test_per_example_gradients_of_a_language_model_that_reads():
    model, (_, tokens) = make("lstm", fast=False), make_batch("lstm")
    named = {key: part.detach() for key, part in model.named_parameters()}

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, text: torch.Tensor) -> torch.Tensor:
            return self.model.read(text, self.model.initial_state(1))[0].square().sum()

    reader = Reader()

    def alone(parameters: dict, text: torch.Tensor) -> torch.Tensor:
        return functional_call(reader, {f"model.{key}": part for key, part in parameters.items()}, text.unsqueeze(0))

    together = vmap(grad(alone), in_dims=(None, 0))(named, tokens)
    single = grad(alone)(named, tokens[1])
    torch.testing.assert_close({key: part[1] for key, part in together.items()}, single)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_equations_equal_torchs_lstm(bidirectional, bias):
    lstm = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=bidirectional, bias=bias)
    inputs, mask = torch.randn(3, 5, 3), torch.arange(5) < torch.tensor([[5], [2], [0]])
    first = tuple(torch.randn(2, 4 if bidirectional else 2, 3, 4))
    torch.testing.assert_close(run_equations(lstm, inputs, first), lstm(inputs, first))
    expected, final = run_lstm(lstm, inputs, first), read_padded(lstm, inputs, mask)
    use_plain_autograd(lstm)
    torch.testing.assert_close(run_lstm(lstm, inputs, first), expected)
    torch.testing.assert_close(read_padded(lstm, inputs, mask), final)


def test_other_ways_of_running_an_lstm_follow_the_equations_too():
    inputs, mask = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, True, False, False]])
    state = LSTMState(*torch.randn(2, 2, 2, 4))
    lstm, both = nn.LSTM(3, 4, 2, batch_first=True), BidirectionalLSTM(3, 4)
    text = TextGenerateLanguageModel(VOCAB_SIZE, hidden=4)
    tokens = torch.randint(1, VOCAB_SIZE, (2, 4))
    found = []
    for _ in range(2):
        read = text.read(tokens, text.initial_state(2))
        found.append((*step_lstm(lstm, inputs[:, 0], state), *both(inputs, mask), *iterate_tensors(read)))
        for module in (lstm, both, text):
            use_plain_autograd(module)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", TEXTS)
def test_plain_models_compute_one_function(name):
    check_model(TEXTS[name](fast=False), pad([[3, 4, 5], [6]]), torch.randint(1, VOCAB_SIZE, (2, 3)))
