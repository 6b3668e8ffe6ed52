"""Decoders in every family of models: those of AttendGen, and one with a growing state and keys of its own."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from attendgen.data.batch import pad
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.layers.attention import AdditiveAttention, attend
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.decoder import Decoder, HardDecoder
from attendgen.layers.hard_attention import ArgmaxSampler
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.past_attention import CoverageAttention, LocationSensitiveAttention
from attendgen.layers.state import Memory, iterate_tensors
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.testing import check_model
from helpers.errors import refusal

VOCAB_SIZE, HIDDEN, TIME = 9, 8, 6


class Read(NamedTuple):
    """All inputs so far; None before the first."""

    inputs: Tensor | None
    rows: Tensor


class AveragingDecoder(nn.Module):
    """Two attentions over the memory, with the mean of all inputs so far as query; it needs no first state."""

    layers = 0

    def __init__(self, inputs: int, hidden: int, memory: int, attention: Any) -> None:
        super().__init__()
        self.features = hidden
        self.query = nn.Linear(inputs, 2 * hidden)
        self.key_proj = nn.ModuleList(nn.Linear(memory, hidden) for _ in range(2))
        self.combine = nn.Linear(2 * memory + inputs, hidden)

    def keys(self, values: Tensor) -> list[Tensor]:
        return [project(values) for project in self.key_proj]

    def initial_state(self, hidden: Tensor, cell: Tensor, memory: Memory) -> Read:
        assert hidden.shape == cell.shape == (len(memory.values), 0, HIDDEN)
        return Read(None, memory.values[:, 0, :0])

    def step(self, inputs: Tensor, state: Read, memory: Memory) -> tuple[Tensor, Tensor, Read]:
        features, alphas, state = self(inputs.unsqueeze(1), state, memory)
        return features[:, 0], alphas[:, 0], state

    def forward(self, inputs: Tensor, state: Read, memory: Memory) -> tuple[Tensor, Tensor, Read]:
        read = inputs if state.inputs is None else torch.cat([state.inputs, inputs], dim=1)
        means = read.cumsum(dim=1) / torch.arange(1, read.size(1) + 1).unsqueeze(1)
        means = means[:, -inputs.size(1) :]
        contexts, alphas = [], []
        for query, keys in zip(self.query(means).chunk(2, dim=-1), memory.keys, strict=True):
            grouped = query.reshape(len(keys), -1, HIDDEN)
            context, alpha = attend(grouped @ keys.transpose(1, 2), memory.values, memory.mask)
            contexts.append(context.reshape(*inputs.shape[:2], -1))
            alphas.append(alpha.reshape(*inputs.shape[:2], -1))
        features = torch.tanh(self.combine(torch.cat([*contexts, means], dim=-1)))
        return features, torch.stack(alphas).mean(dim=0), Read(read, state.rows)


ATTENTION = partial(AdditiveAttention, dim=6)
DECODERS = {
    "bahdanau": BahdanauDecoder,
    "bahdanau, vector gate": partial(BahdanauDecoder, context_gate="vector"),
    "luong": LuongDecoder,
    "luong, two layers": partial(LuongDecoder, layers=2, input_feeding=False),
    "averaging": AveragingDecoder,
}
FAMILIES = {
    "seq2seq": partial(Seq2Seq, VOCAB_SIZE, VOCAB_SIZE, ATTENTION, embedding_dim=6, hidden=HIDDEN),
    "seq2seq, both directions": partial(
        Seq2Seq, VOCAB_SIZE, VOCAB_SIZE, ATTENTION, embedding_dim=6, hidden=HIDDEN, bidirectional=True
    ),
    "context language model": partial(
        ContextLanguageModel, VOCAB_SIZE, ATTENTION, embedding_dim=6, encoder_hidden=4, hidden=HIDDEN
    ),
    "captioner": lambda decoder: Captioner(
        VOCAB_SIZE, SmallCNN((4, 6), size=16), ATTENTION, embedding_dim=6, hidden=HIDDEN, decoder=decoder
    ),
    "captioner, no deep output": lambda decoder: Captioner(
        VOCAB_SIZE, SmallCNN((6,), size=8), ATTENTION, embedding_dim=6, hidden=8, deep_output=False, decoder=decoder
    ),
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param]


@pytest.fixture(params=FAMILIES)
def model(request, decoder):
    return FAMILIES[request.param](decoder=decoder).eval()


@pytest.fixture
def source(model) -> Tensor:
    return torch.randn(3, 5, 6) if isinstance(model, Captioner) else pad([[3, 4, 5, 6], [7, 8], [5]])


def force(model: nn.Module, source: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and alphas of teacher forcing."""
    if isinstance(model, Captioner):
        logits, alphas = model(source, inputs.unsqueeze(1))
        return logits[:, 0], alphas[:, 0]
    return model(source, inputs)


def test_the_decoder_has_the_interface(model):
    assert isinstance(model.decoder, Decoder)


def test_it_computes_one_function(model, source):
    tokens = torch.randint(1, VOCAB_SIZE, (3, TIME))
    check_model(model, source, tokens.unsqueeze(1) if isinstance(model, Captioner) else tokens, half_tolerance=None)


def test_a_resumed_state_equals_one_call(model, source):
    (memory, state), inputs = model.encode(source), torch.randn(3, TIME, 6)
    features, alphas, last = model.decoder(inputs, state, memory)
    parts = []
    for part in (inputs[:, :2], inputs[:, 2:]):
        *found, state = model.decoder(part, state, memory)
        parts.append(found)
    for whole, pieces in zip((features, alphas), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(list(iterate_tensors(state)), list(iterate_tensors(last)))


@torch.no_grad()
def assert_beam_scores_are_log_probabilities(model: nn.Module, source: Tensor) -> None:
    memory, state = model.encode(source)
    decoded = decode(model, memory, state, DecodingConfig(beam_size=4, n_best=3, max_length=TIME), (0, 1, 3))
    for best in range(3):
        tokens = decoded.tokens[:, best]
        inputs = torch.cat([torch.ones_like(tokens[:, :1]), tokens[:, :-1]], dim=1)
        logits, alphas = force(model, source, inputs)
        chosen = logits.log_softmax(dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).masked_fill(tokens == 0, 0.0)
        torch.testing.assert_close(decoded.scores[:, best], chosen.sum(dim=1))
        real = (tokens != 0).unsqueeze(-1)
        torch.testing.assert_close(decoded.attention[:, best], alphas.masked_fill(~real, 0.0))


def test_a_beams_scores_are_the_log_probabilities_of_its_outputs(model, source):
    assert_beam_scores_are_log_probabilities(model, source)


@pytest.mark.parametrize("attention", [CoverageAttention, partial(LocationSensitiveAttention, width=3)])
@pytest.mark.parametrize("decoder", [BahdanauDecoder, LuongDecoder])
def test_a_beam_carries_the_past_of_each_hypothesis(attention, decoder):
    models = (
        Seq2Seq(VOCAB_SIZE, VOCAB_SIZE, attention, decoder, embedding_dim=6, hidden=HIDDEN).eval(),
        Captioner(VOCAB_SIZE, SmallCNN((6,), size=8), attention, 6, HIDDEN, decoder=decoder).eval(),
    )
    for model in models:
        for parameter in model.parameters():  # so that hypotheses differ in where they attended
            parameter.detach().mul_(4)
        is_captioner = isinstance(model, Captioner)
        given = torch.randn(3, 5, 6) if is_captioner else pad([[3, 4, 5, 6], [7, 8], [5]])
        assert_beam_scores_are_log_probabilities(model, given)


def test_every_parameter_has_a_gradient(model, source):
    logits, _ = force(model.train(), source, torch.randint(1, VOCAB_SIZE, (3, TIME)))
    logits.square().sum().backward()
    used = [(name, p) for name, p in model.named_parameters() if not name.startswith("encoder.")]
    assert [name for name, parameter in used if not parameter.grad.any()] == []


@pytest.mark.parametrize("made", [LuongDecoder, AveragingDecoder])
def test_a_decoder_that_cannot_be_hard_is_refused(made):
    model = FAMILIES["captioner"](decoder=made)
    assert not isinstance(model.decoder, HardDecoder)
    with pytest.raises(Exception, match=rf"^model\.decoder: {made.__name__} cannot attend to one sampled location"):
        model.forward_sampled(torch.randn(1, 4, 6), torch.ones(1, 1, 3, dtype=torch.long), ArgmaxSampler())
    assert "cannot attend to one sampled location" in refusal(
        Captioner, VOCAB_SIZE, SmallCNN((6,), size=8), ATTENTION, decoder=made, inference_attention="argmax"
    )


def test_a_bahdanau_decoder_that_is_given_equals_the_default():
    models = []
    for chosen in ({"context_gate": "vector"}, {"decoder": partial(BahdanauDecoder, context_gate="vector")}):
        torch.manual_seed(1)
        models.append(Captioner(VOCAB_SIZE, SmallCNN((6,), size=8), ATTENTION, 6, HIDDEN, **chosen).eval())
    inputs, features = torch.randint(1, VOCAB_SIZE, (2, 3, TIME)), torch.randn(2, 5, 6)
    torch.testing.assert_close(*(model(features, inputs) for model in models), rtol=0, atol=0)
