from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from attendgen.layers.luong import LuongDecoder
from attendgen.models.seq2seq import Seq2Seq
from attendgen.testing import check_model
from attendgen.utils.special_tokens import PAD

SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE = 9, 7
VARIANTS = {
    "unidirectional, dot": {"attention": DotAttention},
    "bidirectional, additive": {"attention": partial(AdditiveAttention, dim=6), "bidirectional": True},
    "two layers, general": {"attention": GeneralAttention, "bidirectional": True, "layers": 2},
    "unidirectional, two layers": {"attention": partial(DotAttention, scaled=True), "layers": 2},
    "smaller encoder, tied": {"attention": GeneralAttention, "encoder_hidden": 3, "bidirectional": True, "tied": True},
    "luong, input feeding, tied": {
        "attention": GeneralAttention,
        "decoder": LuongDecoder,
        "bidirectional": True,
        "tied": True,
    },
    "luong, no input feeding, two layers": {
        "attention": DotAttention,
        "decoder": partial(LuongDecoder, input_feeding=False, layers=2),
    },
}
SOURCES = [[3, 4, 5, 6, 7], [8], [4, 4, 3]]
INPUTS = [[1, 3, 4], [1, 5, 6, 3, 3], [1]]


@pytest.fixture(params=VARIANTS)
def model(request):
    return Seq2Seq(
        SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, embedding_dim=5, hidden=8, dropout=0.5, **VARIANTS[request.param]
    ).eval()


def test_attention_weights_are_a_distribution_over_the_real_positions(model):
    source = pad(SOURCES)
    _, alphas = model(source, pad(INPUTS))
    torch.testing.assert_close(alphas.sum(dim=-1), torch.ones(alphas.shape[:2]))
    padding = (source == PAD).unsqueeze(1).expand_as(alphas)
    assert padding.any()
    assert not alphas[padding].any()


def test_it_computes_one_function(model):
    check_model(model, pad(SOURCES), torch.randint(1, TARGET_VOCAB_SIZE, (3, 5)))


def test_the_state_of_a_unidirectional_encoder_is_the_decoders_first_state():
    model = Seq2Seq(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, DotAttention, embedding_dim=5, hidden=8).eval()
    source = torch.tensor([SOURCES[0]])
    _, state = model.encode(source)
    _, (hidden, cell) = model.encoder(model.source_embedding(source))
    torch.testing.assert_close((state.hidden, state.cell), (hidden[0], cell[0]))


def test_tied_embeddings_are_one_parameter():
    model = Seq2Seq(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, DotAttention, embedding_dim=5, hidden=8, tied=True)
    assert model.output.weight is model.target_embedding.weight
    free = Seq2Seq(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, DotAttention, embedding_dim=5, hidden=8)
    assert free.output.weight is not free.target_embedding.weight


def test_an_empty_source_gives_finite_logits():
    model = Seq2Seq(SOURCE_VOCAB_SIZE, TARGET_VOCAB_SIZE, DotAttention, embedding_dim=5, hidden=8).eval()
    logits, alphas = model(pad([[], [3, 4]]), pad([[1], [1]]))
    assert logits.isfinite().all()
    assert not alphas[0].any()


def test_every_parameter_has_a_gradient(model):
    logits, _ = model.train()(pad(SOURCES), pad(INPUTS))
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
