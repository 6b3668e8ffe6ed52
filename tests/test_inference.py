"""Language models continue and score texts alike, whether they read windows or read on."""

import numpy as np
import pytest
import torch

import tiny
from attendgen.errors import UserError
from attendgen.inference import TextGenerator, load
from attendgen.training import run_hydra


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TextGenerator:
    folder = tmp_path_factory.mktemp("runs")
    small = ["data.context=16", "data.time=24", "data.batch_size=4", "model.hidden=16", "model.reach=20"]
    options = [*small, f"data.root={tiny.novels(folder / 'novels')}", "callbacks.progress=null", "trainer=smoke"]
    run_hydra(["experiment=novels_causal", f"hydra.run.dir={folder / 'run'}", *options])
    model = load(folder / "run")
    assert isinstance(model, TextGenerator)
    return model


CONTEXT = "It was the best of times, it was the worst of times, and " * 3


def test_the_whole_context_is_read(trained):
    one = trained.generate(CONTEXT, max_length=50, temperature=1.0, seed=1)[0]
    ids = torch.tensor([trained.vocabulary.encode(CONTEXT + one.text)])
    model = trained.task.model
    logits, _, _ = model.read(ids, model.blank(1))
    expected = logits[0].log_softmax(dim=-1)[len(CONTEXT) - 1 : -1].gather(1, ids[0, len(CONTEXT) :, None])
    np.testing.assert_allclose(one.log_probs, expected.squeeze(1).detach().numpy(), atol=1e-4)
    assert len(one.text) == 50


def test_a_given_continuation_scores_as_when_it_was_made(trained):
    made = trained.generate(CONTEXT, max_length=30, temperature=1.0, seed=2)[0]
    given = trained.score(CONTEXT, made.text)
    np.testing.assert_allclose(given.log_probs, made.log_probs, atol=1e-4)
    np.testing.assert_allclose(given.attention, made.attention, atol=1e-5)


def test_attention_lies_over_the_text_before_each_character(trained):
    made = trained.generate("It was", max_length=8, temperature=1.0, seed=2)[0]
    assert made.source == [*"It was", *made.tokens]
    for t, weights in enumerate(made.attention):
        read = len("It was") + t - 1  # the last character is where it looks from
        assert weights[:read].sum() == pytest.approx(1.0, abs=1e-5)
        assert not weights[read:].any()


def test_a_continuation_can_be_watched(trained):
    seen: list[str] = []
    made = trained.generate("It was", watch=seen.append, max_length=12, temperature=1.0, seed=4)[0]
    assert seen == made.tokens
    with pytest.raises(UserError, match="beam"):
        trained.generate("It was", watch=seen.append, beam=2)


def test_samples_come_as_one_batch(trained):
    many = trained.generate("It was", n_best=3, max_length=9, temperature=1.0, seed=1)
    assert len({result.text for result in many}) == 3
    for result in many:
        np.testing.assert_allclose(trained.score("It was", result.text).log_probs, result.log_probs, atol=1e-4)


def test_half_precision_writes_nearly_the_same(trained):
    made = trained.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    half = load(trained.run)
    half.to_bfloat16()
    assert next(half.task.model.parameters()).dtype == torch.bfloat16
    again = half.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    assert again.log_probs.dtype == made.log_probs.dtype
    np.testing.assert_allclose(trained.score(CONTEXT, again.text).log_probs, again.log_probs, atol=0.1)
