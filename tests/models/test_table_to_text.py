from functools import partial

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.attention_unit import AttentionUnit
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import ArgmaxSampler, CategoricalSampler
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.records import RecordEncoder
from attendgen.layers.row_attention import RowAttention
from attendgen.layers.state import map_tensors
from attendgen.layers.tables import Cells
from attendgen.losses.score_function import LeaveOneOutEstimator
from attendgen.models.ensemble import Ensemble
from attendgen.models.table_to_text import TableToText
from attendgen.testing import check_estimator, check_model
from attendgen.utils.errors import UserError

SIZES = {
    "kind_vocab_size": 5,
    "entity_vocab_size": 3,
    "value_vocab_size": 7,
    "place_vocab_size": 3,
    "target_vocab_size": 11,
}
KINDS = torch.tensor([[2, 2, 3, 4, 4], [3, 2, 2, 0, 0], [4, 0, 0, 0, 0]])
MASK = (KINDS > 0).long()
CELLS = Cells(
    kinds=KINDS,
    entities=2 * MASK,
    values=torch.tensor([[2, 3, 4, 5, 6], [6, 2, 4, 0, 0], [3, 0, 0, 0, 0]]),
    places=torch.tensor([[1, 2, 1, 1, 2], [1, 1, 2, 0, 0], [1, 0, 0, 0, 0]]),
    rows=torch.tensor([[1, 1, 2, 3, 3], [1, 2, 2, 0, 0], [1, 0, 0, 0, 0]]),
    copies=torch.tensor([[5, 6, 0, 5, 8], [0, 9, 10, 0, 0], [0, 0, 0, 0, 0]]),
)
TOKENS = torch.tensor([[1, 5, 6, 8, 3], [1, 9, 4, 7, 10], [1, 3, 3, 4, 6]])


def make(copy="mixture", decoder=AttentionUnit, attention=AdditiveAttention, **options) -> TableToText:
    options = {"encoder": partial(RecordEncoder, dim=6, embedding_dim=4), "embedding_dim": 5, "hidden": 6} | options
    return TableToText(**SIZES | options, attention=attention, decoder=decoder, copy=copy)


@pytest.mark.parametrize(
    ("copy", "decoder", "attention"),
    [
        ("none", BahdanauDecoder, AdditiveAttention),
        ("joint", LuongDecoder, AdditiveAttention),
        ("mixture", AttentionUnit, RowAttention),
    ],
)
def test_training_and_decoding_compute_one_function(copy, decoder, attention):
    model = make(copy, decoder, attention, tied=copy != "none")
    check_model(model, CELLS, TOKENS)
    logits, _ = model(CELLS, TOKENS)
    is_normalized = torch.allclose(logits.exp().sum(dim=-1), torch.ones(3, 5), atol=1e-5)
    assert is_normalized == (copy != "none")


def test_fast_paths_equal_the_equations():
    model = make(attention=RowAttention)
    plain = make(attention=RowAttention, fast=False)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(CELLS, TOKENS), plain(CELLS, TOKENS))


def test_the_order_of_cells_does_not_matter_without_a_recurrent_encoder():
    model = make(attention=RowAttention).eval()
    order = torch.tensor([3, 1, 0, 4, 2])
    moved = map_tensors(lambda part: part[:, order], CELLS)
    logits, alphas = model(CELLS, TOKENS)
    torch.testing.assert_close(model(moved, TOKENS), (logits, alphas[:, :, order]))


DECODINGS = (
    {"beam_size": 4, "n_best": 2, "coverage_penalty": 0.1},
    {"top_k": 5, "temperature": 1.0},
    {"mbr_samples": 4, "beam_size": 2},
)


@pytest.mark.parametrize("copy", ["mixture", "joint"])
def test_all_decodings_serve_it_alone_and_in_an_ensemble(copy):
    makers = [partial(make, copy), partial(make, "none", BahdanauDecoder)]
    ensemble = Ensemble([lambda made=made, **_: made() for made in makers], **SIZES)
    for model in (makers[0]().eval(), ensemble.eval()):
        for options in DECODINGS:
            with torch.no_grad():
                decoded = decode(model, *model.encode(CELLS), DecodingConfig(max_length=6, seed=1, **options))
                tokens = decoded.tokens[:, 0]
                inputs = torch.cat([torch.ones(3, 1, dtype=torch.long), tokens[:, :-1]], dim=1)
                log_probs = model(CELLS, inputs)[0].log_softmax(dim=-1)
            forced = log_probs.gather(2, tokens.unsqueeze(2)).squeeze(2)
            if "mbr_samples" not in options:  # it reports no log-probabilities of one model
                torch.testing.assert_close(decoded.log_probs[:, 0][tokens != 0], forced[tokens != 0], atol=1e-4, rtol=0)


def test_every_weight_has_a_gradient():
    encoder = partial(RecordEncoder, dim=6, content_selection=True, recurrent=True)
    model = make(attention=RowAttention, encoder=encoder)
    model(CELLS, TOKENS)[0].gather(2, TOKENS.roll(-1, dims=1).unsqueeze(2)).sum().backward()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


HARD = [BahdanauDecoder, AttentionUnit, partial(AttentionUnit, looks=1)]


@pytest.mark.parametrize("decoder", HARD)
def test_sampled_cells_in_training_and_in_decoding(decoder):
    model = make(decoder=decoder, attention=RowAttention).eval()
    samples = model.forward_sampled(CELLS, TOKENS.unsqueeze(1), ArgmaxSampler(), num_samples=2, with_soft=True)
    logits, alphas = model(CELLS, TOKENS)
    torch.testing.assert_close(samples.logits[:, 0, -1], logits)
    torch.testing.assert_close(samples.weights[:, 0, -1], alphas)
    hard = make(decoder=decoder, attention=RowAttention, inference_attention="argmax").eval()
    hard.load_state_dict(model.state_dict())
    memory, state = hard.encode(CELLS)
    for t in range(TOKENS.size(1)):
        log_probs, weights, state = hard.step(TOKENS[:, t], state, memory)
        torch.testing.assert_close(log_probs, samples.logits[:, 0, 0, t])
        torch.testing.assert_close(weights, samples.weights[:, 0, 1, t])
        assert weights.sort(dim=1).values.tolist() == [[0, 0, 0, 0, 1]] * 3
        torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("decoder", HARD)
def test_the_mean_gradient_of_hard_attention_is_exact(decoder):
    cells = Cells(*(part[:1, :3] for part in CELLS))
    model = make("none", decoder=decoder, target_vocab_size=6).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # so that the cell matters
    check_estimator(LeaveOneOutEstimator(CategoricalSampler(), num_samples=2), model=model, source=cells)


def test_a_decoder_that_cannot_attend_to_one_cell_is_refused():
    with pytest.raises(UserError, match=r"LuongDecoder cannot .* use model/decoder=attention_unit, attention_gru or"):
        make(inference_attention="sample", decoder=LuongDecoder)


def test_an_unknown_way_to_copy_is_refused():
    with pytest.raises(UserError, match=r"model\.copy=both: unknown; choose one of none, mixture, joint"):
        make("both")
