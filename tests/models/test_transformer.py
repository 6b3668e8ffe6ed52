"""Requirements on the Transformer that translates and on the one that captions."""

from functools import partial

import pytest
import torch
from torch import nn

from attendgen.data.batch import pad
from attendgen.decoding.beam import beam_search
from attendgen.decoding.processors import Constraints
from attendgen.layers.attention import DotAttention
from attendgen.models.encoders.base import GridEncoder
from attendgen.models.ensemble import Ensemble
from attendgen.models.seq2seq import Seq2Seq
from attendgen.models.transformer import TransformerSeq2Seq
from attendgen.models.transformer_captioner import TransformerCaptioner
from attendgen.testing import check_model
from attendgen.utils.special_tokens import PAD, SOS

SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE = 9, 7
REGIONS, FEATURES = 5, 6
SIZES = {"dim": 8, "heads": 2, "feed_forward": 10, "dropout": 0.5}
Translator = partial(TransformerSeq2Seq, SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, **SIZES)
VARIANTS = {
    "rotary": Translator,
    "learned positions, tied": partial(Translator, learned_positions=12, tied=True),
    "one layer, no encoder layers": partial(Translator, encoder_layers=0, decoder_layers=1),
}
SOURCES = [[3, 4, 5, 6, 7], [8], [4, 4, 3]]
INPUTS = [[1, 3, 4], [1, 5, 6, 3, 3], [1]]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(params=VARIANTS)
def model(request):
    return VARIANTS[request.param]().eval()


@pytest.fixture(params=["rotary", "learned positions, tied", "regions attend to each other"])
def captioner(request):
    options = {
        "rotary": {},
        "learned positions, tied": {"learned_positions": 12, "tied": True},
        "regions attend to each other": {"region_layers": 1},
    }[request.param]
    encoder = GridEncoder(nn.Conv2d(3, FEATURES, 4, stride=4), FEATURES, 8)
    return TransformerCaptioner(TARGET_VOCAB_SIZE, encoder, memory_dropout=0.5, **SIZES, **options).eval()


def test_it_computes_one_function(model):
    check_model(model, pad(SOURCES), torch.randint(1, TARGET_VOCAB_SIZE, (3, 5)))


def test_attention_weights_are_a_distribution_over_the_real_positions(model):
    source = pad(SOURCES)
    _, alphas = model(source, pad(INPUTS))
    torch.testing.assert_close(alphas.sum(dim=-1), torch.ones(alphas.shape[:2]))
    padding = (source == PAD).unsqueeze(1).expand_as(alphas)
    assert padding.any()
    assert not alphas[padding].any()


def test_an_empty_source_gives_finite_logits_and_no_attention(model):
    logits, alphas = model(pad([[], [3, 4]]), pad([[1], [1]]))
    assert logits.isfinite().all()
    assert not alphas[0].any()
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class Recomputed:
    """A model without a cache: its state is the tokens so far, all of which are read anew at each step."""

    def __init__(self, model: nn.Module, source: torch.Tensor) -> None:
        self.model = model
        self.source = source

    def step(self, tokens, state, memory):
        read = torch.cat([state[0], tokens.unsqueeze(1)], dim=1)
        rows = memory[0].repeat_interleave(len(tokens) // len(memory[0]))
        logits, alphas = self.model(self.source[rows], read)
        return logits[:, -1].log_softmax(dim=-1), alphas[:, -1], (read,)


def test_beam_search_with_the_cache_equals_recomputation(model):
    for parameter in model.parameters():  # hypotheses that differ from source to source
        torch.nn.init.normal_(parameter)
    source, settings = pad(SOURCES), {"max_length": 7, "width": 4, "n_best": 3}
    settings["processors"] = (Constraints(min_length=4),)
    found = beam_search(model, *model.encode(source), **settings)
    rows, nothing = torch.arange(len(source)), torch.empty(len(source), 0, dtype=torch.long)
    expected = beam_search(Recomputed(model, source), (rows,), (nothing,), **settings)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores, **CLOSE)
    torch.testing.assert_close(found.attention, expected.attention, **CLOSE)
    assert found.tokens.size(2) >= 4


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(SOURCES), pad(INPUTS))
    logits.square().sum().backward()
    # keys' biases shift all scores of a query alike, which a softmax ignores
    silent = {name for name, parameter in model.named_parameters() if parameter.grad.abs().max() < 1e-6}
    assert {name for name in silent if not name.endswith("key.bias")} == set()


def test_tied_embeddings_are_one_parameter():
    model = Translator(tied=True)
    assert model.output.weight is model.target_embedding.weight
    free = Translator()
    assert free.output.weight is not free.target_embedding.weight


def test_an_ensemble_may_hold_an_lstm_and_a_transformer():
    lstm = Seq2Seq(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, DotAttention, embedding_dim=5, hidden=8).eval()
    transformer = Translator().eval()
    pair = Ensemble([lambda: lstm, lambda: transformer]).eval()
    source, inputs = pad(SOURCES), torch.randint(1, TARGET_VOCAB_SIZE, (3, 5))
    logits, alphas = pair(source, inputs)
    one, other = lstm(source, inputs), transformer(source, inputs)
    mean = (one[0].log_softmax(dim=-1) + other[0].log_softmax(dim=-1)) / 2
    torch.testing.assert_close(logits, mean.log_softmax(dim=-1), **CLOSE)
    torch.testing.assert_close(alphas, (one[1] + other[1]) / 2, **CLOSE)
    check_model(pair, source, inputs)
    assert beam_search(pair, *pair.encode(source), max_length=4, width=3).scores.isfinite().all()


def test_a_captioner_computes_one_function(captioner):
    features, inputs = torch.randn(2, REGIONS, FEATURES), torch.randint(1, TARGET_VOCAB_SIZE, (2, 3, 4))
    check_model(captioner, features, inputs)
    _, alphas = captioner(features, inputs)
    torch.testing.assert_close(alphas.sum(dim=-1), torch.ones(2, 3, 4))


def test_a_captioner_reads_pixels_through_its_encoder(captioner):
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    inputs = torch.full((2, 1, 1), SOS)
    torch.testing.assert_close(captioner(images, inputs), captioner(captioner.encoder(images), inputs))
    assert not torch.allclose(captioner(images, inputs)[0][0], captioner(images, inputs)[0][1])


def test_every_parameter_of_a_captioner_has_a_gradient(captioner):
    logits, _ = captioner.train()(torch.randn(2, REGIONS, FEATURES), torch.randint(1, TARGET_VOCAB_SIZE, (2, 3, 4)))
    logits.square().sum().backward()
    trained = [(name, parameter) for name, parameter in captioner.named_parameters() if parameter.requires_grad]
    silent = {name for name, parameter in trained if parameter.grad.abs().max() < 1e-6}
    assert {name for name in silent if not name.endswith("key.bias")} == set()
