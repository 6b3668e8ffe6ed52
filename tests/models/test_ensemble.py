"""Ensembles generate by the weighted product of their members' probabilities, whatever the members' states are."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from attendgen.decoding.beam import beam_search
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.state import iterate_tensors, take_rows
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble, StatefulEnsemble
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.testing import check_model
from attendgen.utils.errors import UserError

VOCAB_SIZE = 11
WEIGHTS = [0.5, 0.3, 0.1]


def make_language_models() -> StatefulEnsemble:
    """Language models with and without n-grams, with one layer and two, with attention windows of several sizes."""
    makers = [
        partial(
            LSTMLanguageModel, embedding_dim=4, hidden=6, ngrams=3, ngram_rows=20, attention_window=3, attention_dim=4
        ),
        partial(LSTMLanguageModel, embedding_dim=3, hidden=5, layers=2),
        partial(LSTMLanguageModel, embedding_dim=4, hidden=6, attention_window=5, attention_dim=4),
    ]
    return StatefulEnsemble(makers, WEIGHTS, vocab_size=VOCAB_SIZE).eval()


def make_translators() -> Ensemble:
    attention = partial(AdditiveAttention, dim=4)
    makers = [
        partial(Seq2Seq, attention=attention, embedding_dim=4, hidden=6),
        partial(Seq2Seq, attention=attention, decoder=LuongDecoder, embedding_dim=5, hidden=4, bidirectional=True),
    ]
    return Ensemble(makers, source_vocab_size=VOCAB_SIZE, target_vocab_size=VOCAB_SIZE).eval()


def make_captioners() -> CaptionerEnsemble:
    makers = [
        partial(
            Captioner,
            attention=partial(AdditiveAttention, dim=4),
            embedding_dim=4,
            hidden=hidden,
            feature_dim=feature_dim,
        )
        for hidden, feature_dim in ((6, None), (5, 3))
    ]
    return CaptionerEnsemble(makers, SmallCNN((8,), size=32), [3.0, 1.0], vocab_size=VOCAB_SIZE).eval()


def product(weights: list[float], each: list[Tensor]) -> Tensor:
    """Return the normalized product of probabilities, given as logits, raised to their weights."""
    factors = [logits.softmax(dim=-1).double() ** weight for weight, logits in zip(weights, each, strict=True)]
    total = math.prod(factors)
    return (total / total.sum(dim=-1, keepdim=True)).float()


def mean(shares: list[float], each: list[Tensor]) -> Tensor:
    return sum(share * part for share, part in zip(shares, each, strict=True))  # type: ignore[return-value]


def test_the_probabilities_of_texts_are_the_normalized_weighted_product():
    model, inputs = make_language_models(), torch.randint(1, VOCAB_SIZE, (2, 9))
    logits, alphas, _ = model.read(inputs, model.initial_state(2))
    each = [member.read(inputs, member.initial_state(2)) for member in model.members]
    expected = product(WEIGHTS, [one[0] for one in each])
    torch.testing.assert_close(logits.exp(), expected)
    torch.testing.assert_close(logits.softmax(dim=-1), expected)  # log-probabilities are logits, too
    # the second member does not attend; the windows of the others have three and five states
    torch.testing.assert_close(alphas[..., :2], each[2][1][..., :2] * (0.1 / 0.6))
    torch.testing.assert_close(alphas[..., 2:], mean([0.5 / 0.6, 0.1 / 0.6], [each[0][1], each[2][1][..., 2:]]))


def test_recording_collects_the_members_log_probabilities():
    model, inputs = make_language_models(), torch.randint(1, VOCAB_SIZE, (2, 9))
    with model.recording() as recorded:
        logits, _, _ = model.read(inputs, model.initial_state(2))
    model.read(inputs, model.initial_state(2))  # not recorded
    (each,) = recorded
    for member, log_probs in zip(model.members, each.unbind(-1), strict=True):
        torch.testing.assert_close(log_probs, member.read(inputs, member.initial_state(2))[0].log_softmax(dim=-1))
    torch.testing.assert_close(logits.exp(), product(WEIGHTS, list(each.unbind(-1))))


def test_language_models_continue_a_text():
    model, inputs = make_language_models(), torch.randint(1, VOCAB_SIZE, (2, 9))
    check_model(model, torch.randint(1, VOCAB_SIZE, (2, 4)), inputs)


def test_all_members_read_the_context():
    makers = [
        partial(ContextLanguageModel, attention=partial(AdditiveAttention, dim=4), embedding_dim=4, hidden=hidden)
        for hidden in (4, 6)
    ]
    model = Ensemble(makers, vocab_size=VOCAB_SIZE).eval()
    context, inputs = torch.randint(1, VOCAB_SIZE, (2, 5)), torch.randint(1, VOCAB_SIZE, (2, 7))
    logits, alphas = model(context, inputs)
    each = [member(context, inputs) for member in model.members]
    torch.testing.assert_close(logits.exp(), product([0.5, 0.5], [one[0] for one in each]))
    torch.testing.assert_close(alphas, mean([0.5, 0.5], [one[1] for one in each]))
    check_model(model, context, inputs)


def test_translators_decode_masked_sources_with_several_hypotheses():
    model = make_translators()
    source, inputs = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]]), torch.randint(1, VOCAB_SIZE, (2, 6))
    check_model(model, source, inputs)
    memory, _ = model.encode(source)
    for part in memory:
        assert torch.equal(part.mask, source != 0)
    together = beam_search(model, *model.encode(source), max_length=8, width=3, n_best=3)
    for row, one in enumerate(([[4, 5, 6, 7]], [[8, 9]])):  # the inputs end at different steps
        alone = beam_search(model, *model.encode(torch.tensor(one)), max_length=8, width=3, n_best=3)
        torch.testing.assert_close(together.scores[row], alone.scores[0])


def test_captioners_share_one_encoder(monkeypatch):
    model = make_captioners()
    pixels, inputs = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.randint(1, VOCAB_SIZE, (2, 3, 5))
    seen = []
    encode = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda images: seen.append(len(images)) or encode(images))
    logits, alphas = model(pixels, inputs)
    assert seen == [2]
    features = encode(pixels)
    each = [member(features, inputs) for member in model.members]
    torch.testing.assert_close(logits.exp(), product([3.0, 1.0], [one[0] for one in each]))
    torch.testing.assert_close(alphas, mean([0.75, 0.25], [one[1] for one in each]))
    check_model(model, pixels, inputs, half_tolerance=None)
    assert sum(name.startswith("members.0.encoder") for name in model.state_dict()) == 0


def test_rows_are_chosen_from_the_states_of_all_members():
    model = make_language_models()
    _, _, state = model.read(torch.randint(1, VOCAB_SIZE, (3, 4)), model.initial_state(3))
    chosen = take_rows(state, torch.tensor([2, 0, 2]))
    for whole, part in zip(state, chosen, strict=True):
        assert type(whole) is type(part)
    for before, after in zip(iterate_tensors(state), iterate_tensors(chosen), strict=True):
        assert torch.equal(after, before[[2, 0, 2]])


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 0.0, -1.0], [1.0, math.nan, 1.0], []])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(UserError, match=r"model\.weights"):
        StatefulEnsemble([partial(LSTMLanguageModel, hidden=4)] * 3, weights, vocab_size=VOCAB_SIZE)
    with pytest.raises(UserError, match=r"model\.weights"):
        Ensemble([], vocab_size=VOCAB_SIZE)


def test_weights_that_sum_to_less_than_one_flatten_the_distribution():
    model, inputs = make_language_models(), torch.randint(1, VOCAB_SIZE, (1, 5))
    model.weights = [0.0, 0.5, 0.0]
    member = model.members[1]
    expected = (member.read(inputs, member.initial_state(1))[0] * 0.5).log_softmax(dim=-1)  # type: ignore[operator]
    torch.testing.assert_close(model.read(inputs, model.initial_state(1))[0], expected)


def test_a_member_of_weight_zero_has_no_influence():
    model, inputs = make_language_models(), torch.randint(1, VOCAB_SIZE, (1, 5))
    model.weights = [0.0, 1.0, 0.0]
    logits, alphas, _ = model.read(inputs, model.initial_state(1))
    member = model.members[1]
    torch.testing.assert_close(logits, member.read(inputs, member.initial_state(1))[0].log_softmax(dim=-1))  # type: ignore[operator]
    assert not alphas.any()
