"""Custom attention layers whose context is not `alpha @ memory`, in every family of models."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention, MeanAttention, attend
from attendgen.layers.attention_protocol import has_scores, has_weighted_sum
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import ArgmaxSampler
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.multi_head import MultiHeadAttention
from attendgen.layers.past_attention import CoverageAttention, LocationSensitiveAttention
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.testing import check_model
from attendgen.utils.errors import UserError

VOCAB_SIZE, HIDDEN = 9, 8
TIME = 24  # enough steps that multiplying the memory once would be less work


class MultiHead(nn.Module):
    """Two heads, each over its own slice of the memory; alpha is their mean."""

    def __init__(self, query: int, memory: int) -> None:
        super().__init__()
        self.query_proj, self.key_proj = nn.Linear(query, 2 * memory), nn.Linear(memory, 2 * memory)

    def keys(self, memory):
        return self.key_proj(memory)

    def forward(self, query, keys, memory, mask=None):
        parts = zip(self.query_proj(query).chunk(2, -1), keys.chunk(2, -1), memory.chunk(2, -1), strict=True)
        found = [attend(q @ k.transpose(1, 2) / math.sqrt(k.size(-1)), v, mask) for q, k, v in parts]
        contexts, alphas = zip(*found, strict=True)
        return torch.cat(contexts, dim=-1), torch.stack(alphas).mean(dim=0)


class Squashed(GeneralAttention):
    """tanh of the expected memory vector."""

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.tanh(3 * context), alpha


class Gated(GeneralAttention):
    """The expected memory vector times a gate of the query."""

    def __init__(self, query: int, memory: int) -> None:
        super().__init__(query, memory)
        self.gate = nn.Linear(query, memory)

    def forward(self, query, keys, memory, mask=None):
        context, alpha = super().forward(query, keys, memory, mask)
        return torch.sigmoid(self.gate(query)) * context, alpha


class Shifted(GeneralAttention):
    """Adds a number to each context, in `__call__`."""

    def __call__(self, query, keys, memory, mask=None):
        context, alpha = super().__call__(query, keys, memory, mask)
        return context + 1.0, alpha


def captioner(attention, context_gate="none", **settings) -> Captioner:
    return Captioner(
        VOCAB_SIZE,
        SmallCNN((4, 12), size=16),
        attention,
        embedding_dim=7,
        hidden=HIDDEN,
        context_gate=context_gate,
        **settings,
    )


MODELS = {
    "bahdanau": lambda attention: Seq2Seq(
        VOCAB_SIZE, VOCAB_SIZE, attention, BahdanauDecoder, embedding_dim=6, hidden=HIDDEN
    ),
    "luong": lambda attention: Seq2Seq(VOCAB_SIZE, VOCAB_SIZE, attention, LuongDecoder, embedding_dim=6, hidden=HIDDEN),
    "luong, no input feeding": lambda attention: Seq2Seq(
        VOCAB_SIZE, VOCAB_SIZE, attention, partial(LuongDecoder, input_feeding=False), embedding_dim=6, hidden=HIDDEN
    ),
    "context language model": lambda attention: ContextLanguageModel(
        VOCAB_SIZE, attention, embedding_dim=6, encoder_hidden=4, hidden=HIDDEN
    ),
    "captioner": captioner,
    "captioner, scalar gate": partial(captioner, context_gate="scalar"),
    "captioner, vector gate": partial(captioner, context_gate="vector"),
    "captioner, no deep output": partial(captioner, deep_output=False),
}


@pytest.fixture(params=[MultiHead, Squashed, Gated, Shifted])
def attention(request):
    return request.param


BUILT_IN = [MultiHeadAttention, LocationSensitiveAttention, CoverageAttention]


@pytest.fixture(params=[MultiHead, Squashed, Gated, Shifted, *BUILT_IN])
def any_attention(request):
    return request.param


def make_model(name, attention):
    model = MODELS[name](attention).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # an untrained model hardly depends on its context
            parameter.mul_(4)
    return model


@pytest.fixture(params=MODELS)
def model(request, any_attention):
    return make_model(request.param, any_attention)


def make_source(model: nn.Module) -> torch.Tensor:
    if isinstance(model, Captioner):
        return torch.randn(2, 9, 12, dtype=torch.double)
    return pad([[3, 4, 5, 6], [7, 8]])


@pytest.mark.parametrize("attention", [Squashed, Gated, Shifted])  # several heads: tests/testing/test_model.py
@pytest.mark.parametrize("name", MODELS)
def test_every_model_computes_one_function(name, attention):
    model = make_model(name, attention)
    tokens = torch.randint(1, VOCAB_SIZE, (2, TIME))
    several = tokens.unsqueeze(1) if isinstance(model, Captioner) else tokens
    check_model(model, make_source(model), several, tolerance=1e-5, half_tolerance=None)


def test_gradients_of_single_steps_equal_those_of_teacher_forcing(model):
    source, inputs = make_source(model), torch.randint(1, VOCAB_SIZE, (2, TIME))
    several = inputs.unsqueeze(1) if isinstance(model, Captioner) else inputs
    logits = model(source, several)[0].reshape(2, TIME, -1)
    (memory, state), stepped = model.encode(source), []
    for tokens in inputs.unbind(1):
        log_probs, _, state = model.step(tokens, state, memory)
        stepped.append(log_probs)
    weights = torch.randn(2, TIME, VOCAB_SIZE, dtype=torch.double)
    gradients = [
        torch.autograd.grad((log_probs * weights).sum(), list(model.parameters()), materialize_grads=True)
        for log_probs in (logits.log_softmax(dim=-1), torch.stack(stepped, dim=1).double())
    ]
    for forced, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, forced, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer", [MeanAttention(4, 4), DotAttention(4, 4), GeneralAttention(4, 4), AdditiveAttention(4, 4)]
)
def test_the_attention_layers_of_attendgen_declare_a_weighted_sum(layer):
    query, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    context, alpha = layer(query, layer.keys(memory), memory)
    assert has_weighted_sum(layer)
    torch.testing.assert_close(context, alpha @ memory)


def test_a_subclass_with_another_forward_must_declare_it_again(attention):
    assert not has_weighted_sum(attention(4, 4))

    class Declared(attention):
        context_is_weighted_sum = True

    assert has_weighted_sum(Declared(4, 4))


def test_a_subclass_with_another_forward_must_offer_its_scores_again():
    class Own(AdditiveAttention):
        context_is_weighted_sum = True

        def score_keys(self, query, keys):
            return 2 * super().score_keys(query, keys)

    class Rescaled(Own):
        context_is_weighted_sum = True

        def forward(self, query, keys, memory, mask=None):
            return attend(super().score_keys(self.query_proj(query), keys).square(), memory, mask)

        def score_keys(self, query, keys):
            return 3 * super().score_keys(query, keys)

    class Offered(Rescaled):
        query_weight = AdditiveAttention.query_weight

    assert [has_scores(kind(4, 4)) for kind in (AdditiveAttention, Own, Rescaled, Offered)] == [True, True, False, True]


def test_a_layer_with_hooks_or_a_forward_of_its_own_declares_nothing():
    layers = [GeneralAttention(4, 4) for _ in range(4)]
    layers[0].register_forward_hook(lambda module, inputs, output: None)
    layers[1].register_forward_pre_hook(lambda module, inputs: None)
    layers[2].forward = layers[3].forward
    assert [has_weighted_sum(layer) for layer in layers] == [False, False, False, True]


def test_hard_attention_needs_a_weighted_sum(attention):
    with pytest.raises(UserError, match=r"model\.attention: hard attention .*context_is_weighted_sum"):
        captioner(attention, inference_attention="argmax")
    soft = captioner(attention).double().eval()
    with pytest.raises(UserError, match=r"model\.attention: hard attention"):
        soft.forward_sampled(make_source(soft), torch.randint(1, VOCAB_SIZE, (2, 1, 4)), ArgmaxSampler())
