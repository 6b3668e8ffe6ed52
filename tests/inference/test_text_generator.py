"""Language models continue and score texts alike, whether they read windows or read on."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import StatefulModel
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.utils.errors import UserError
from helpers import tiny_data

MODELS = {
    "causal": ["novels_lstm", "model.attention_window=20"],
    "windows": ["novels"],
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TextGenerator]:
    runs = tiny.Runs(tmp_path_factory.mktemp("runs"), MODELS)

    def make(name: str) -> TextGenerator:
        model = load(runs(name))
        assert isinstance(model, TextGenerator)
        return model

    return make


@pytest.fixture(params=MODELS)
def trained(make, request) -> TextGenerator:
    """Any model."""
    return make(request.param)


@pytest.fixture(params=["causal"])
def reader(make, request) -> TextGenerator:
    """A model that reads on."""
    return make(request.param)


CONTEXT = "It was the best of times, it was the worst of times, and " * 3


def test_the_whole_context_is_read(reader):
    one = reader.generate(CONTEXT, max_length=60, temperature=1.0, seed=1)[0]
    ids = torch.tensor([reader.vocabulary.encode(CONTEXT + one.text)])
    model = reader.task.model
    _, _, state = model.read(ids[:, : len(CONTEXT) - 1], model.initial_state(1))
    logits, _, _ = model.read(ids[:, len(CONTEXT) - 1 : -1], state)
    expected = logits[0].log_softmax(dim=-1).gather(1, ids[0, len(CONTEXT) :, None])
    np.testing.assert_allclose(one.log_probs, expected.squeeze(1).detach().numpy(), atol=1e-4)
    assert len(one.text) == 60


def test_a_given_continuation_scores_as_when_it_was_made(trained):
    made = trained.generate(CONTEXT, max_length=60, temperature=1.0, seed=2)[0]
    given = trained.score(CONTEXT, made.text)
    np.testing.assert_allclose(given.log_probs, made.log_probs, atol=1e-4)
    np.testing.assert_allclose(given.attention, made.attention, atol=1e-5)


def test_attention_lies_over_the_text_before_each_character(make):
    made = make("causal").generate("It was", max_length=8, temperature=1.0, seed=2)[0]
    assert made.source == [*"It was", *made.tokens]
    for t, weights in enumerate(made.attention):
        read = len("It was") + t - 1  # the last character is where it looks from
        assert weights[:read].sum() == pytest.approx(1.0, abs=1e-5)
        assert not weights[read:].any()


def test_a_continuation_can_be_watched(trained):
    seen: list[str] = []
    made = trained.generate("It was", on_token=seen.append, max_length=12, temperature=1.0, seed=4)[0]
    assert seen == made.tokens
    with pytest.raises(UserError, match="beam"):
        trained.generate("It was", on_token=seen.append, beam_size=2)


def test_samples_come_as_one_batch(trained):
    many = trained.generate("It was", n_best=3, max_length=60, temperature=1.0, seed=1)
    assert len({result.text for result in many}) == 3
    for result in many:
        np.testing.assert_allclose(trained.score("It was", result.text).log_probs, result.log_probs, atol=1e-4)


def test_several_samples_read_their_context_once(trained, monkeypatch):
    model, rows = trained.task.model, []
    start = model.start

    def counted(texts, *state):
        rows.append(len(texts))
        return start(texts, *state)

    monkeypatch.setattr(model, "start", counted)
    many = trained.generate(CONTEXT, n_best=3, max_length=10, temperature=1.0, seed=1)
    assert rows == [1]
    # as three rows that each read it, sampled from the same stream
    ids = torch.tensor([trained.vocabulary.encode(CONTEXT)] * 3)
    search = DecodingConfig(max_length=10, temperature=1.0, seed=1)
    with torch.inference_mode():
        memory, state = start(ids if isinstance(model, StatefulModel) else ids[:, -16:])
        apart = search(model, memory, state, trained.task.forbidden, prefix=ids[:, -1], eos_id=None)
    order = apart.scores[:, 0].argsort(descending=True)
    assert [result.text for result in many] == [trained.vocabulary.decode(apart.tokens[i, 0].tolist()) for i in order]
    np.testing.assert_allclose([result.score for result in many], apart.scores[order, 0], rtol=1e-4)


def test_half_precision_writes_nearly_the_same(trained):
    made = trained.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    half = load(trained.run)
    half.to_bfloat16()
    assert next(half.task.model.parameters()).dtype == torch.bfloat16
    again = half.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    assert again.log_probs.dtype == made.log_probs.dtype
    np.testing.assert_allclose(trained.score(CONTEXT, again.text).log_probs, again.log_probs, atol=0.1)
