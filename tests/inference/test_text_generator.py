"""Language models continue and score texts alike, whether they are stateful or read windows."""

import numpy as np
import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import StatefulModel
from attendgen.decoding.sampling import RandomStreams
from attendgen.inference import text_generator
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.utils.special_tokens import PAD, SOS
from helpers.errors import refusal
from helpers.runs import SharedRuns

MODELS = {"stateful": ["novels_lstm", "model.attention_window=20"], "windows": ["novels"]}
CONTEXT = "It was the best of times, it was the worst of times, and " * 3


def load_generator(runs: SharedRuns, name: str) -> TextGenerator:
    model = load(runs(*MODELS[name]))
    assert isinstance(model, TextGenerator)
    return model


@pytest.fixture(params=MODELS)
def trained(runs: SharedRuns, request: pytest.FixtureRequest) -> TextGenerator:
    """A model of each kind."""
    return load_generator(runs, request.param)


@pytest.fixture
def stateful(runs: SharedRuns) -> TextGenerator:
    """A model whose state holds all that it has read."""
    return load_generator(runs, "stateful")


def test_stateful_model_reads_the_whole_context(stateful: TextGenerator) -> None:
    one = stateful.generate(CONTEXT, max_length=60, temperature=1.0, seed=1)[0]
    ids = torch.tensor([stateful.vocabulary.encode(CONTEXT + one.text)])
    model = stateful.model
    _, _, state = model.read(ids[:, : len(CONTEXT) - 1], model.initial_state(1))
    logits, _, _ = model.read(ids[:, len(CONTEXT) - 1 : -1], state)
    expected = logits[0].log_softmax(dim=-1).gather(1, ids[0, len(CONTEXT) :, None])
    np.testing.assert_allclose(one.log_probs, expected.squeeze(1).detach().numpy(), atol=1e-4)
    assert len(one.text) == 60


def test_model_of_windows_reads_what_is_left_of_each_window(runs: SharedRuns) -> None:
    trained = load_generator(runs, "windows")
    context_len, seq_len = trained.run.config.data.context_len, trained.run.config.data.seq_len
    one = trained.generate(CONTEXT, max_length=2 * seq_len, temperature=1.0, seed=1)[0]
    ids = torch.tensor([trained.vocabulary.encode(CONTEXT + one.text)])
    expected = []
    for start in (len(CONTEXT), len(CONTEXT) + seq_len):
        context, inputs = ids[:, start - context_len : start], ids[:, start - 1 : start + seq_len - 1]
        log_probs = trained.model(context, inputs)[0].log_softmax(dim=-1)
        expected.append(log_probs[0].gather(1, ids[0, start : start + seq_len, None]).squeeze(1))
    np.testing.assert_allclose(one.log_probs, torch.cat(expected).detach().numpy(), atol=1e-4)


def test_score_of_a_continuation_equals_that_of_its_generation(trained: TextGenerator) -> None:
    made = trained.generate(CONTEXT, max_length=60, temperature=1.0, seed=2)[0]
    given = trained.score(CONTEXT, made.text)
    np.testing.assert_allclose(given.log_probs, made.log_probs, atol=1e-4)
    np.testing.assert_allclose(given.attention, made.attention, atol=1e-5)


def test_attention_covers_the_text_before_each_character(stateful: TextGenerator) -> None:
    made = stateful.generate("It was", max_length=8, temperature=1.0, seed=2)[0]
    assert made.source == [*"It was", *made.tokens]
    for t, weights in enumerate(made.attention):
        read = len("It was") + t - 1  # the state after the last character is the query, not a part of the memory
        assert weights[:read].sum() == pytest.approx(1.0, abs=1e-5)
        assert not weights[read:].any()


def test_on_token_receives_each_character(trained: TextGenerator) -> None:
    seen: list[str] = []
    made = trained.generate("It was", on_token=seen.append, max_length=12, temperature=1.0, seed=4)[0]
    assert seen == made.tokens


def test_beam_search_is_refused(trained: TextGenerator) -> None:
    assert "beam_size=2" in refusal(trained.generate, "It was", beam_size=2)
    assert "only models that write about tables" in refusal(
        trained.generate, "It was", temperature=1.0, n_best=2, facts=True
    )


def test_samples_of_one_context_differ_and_score_as_each_alone(trained: TextGenerator) -> None:
    many = trained.generate("It was", n_best=3, max_length=60, temperature=1.0, seed=1)
    assert len({result.text for result in many}) == 3
    for result in many:
        np.testing.assert_allclose(trained.score("It was", result.text).log_probs, result.log_probs, atol=1e-4)


def test_context_is_encoded_once_for_several_samples(trained: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = trained.model, []
    encode = model.encode

    def count_rows(texts: torch.Tensor) -> tuple:
        rows.append(len(texts))
        return encode(texts)

    monkeypatch.setattr(model, "encode", count_rows)
    many = trained.generate(CONTEXT, n_best=3, max_length=10, temperature=1.0, seed=1)
    assert rows == [1]
    # the same as three rows that are encoded one by one and drawn from the same random numbers
    ids = torch.tensor([trained.vocabulary.encode(CONTEXT)] * 3)
    config = DecodingConfig(max_length=10, temperature=1.0, seed=1)
    with torch.inference_mode():
        memory, state = encode(ids if isinstance(model, StatefulModel) else ids[:, -16:])
        suppressed, streams = trained.vocabulary.suppressed(eos=True), RandomStreams(1, [0], 3)
        apart = decode(model, memory, state, config, suppressed, prefix=ids[:, -1], eos_id=None, streams=streams)
    order = apart.scores[:, 0].argsort(descending=True)
    assert [result.text for result in many] == [trained.vocabulary.decode(apart.tokens[i, 0].tolist()) for i in order]
    np.testing.assert_allclose([result.score for result in many], apart.scores[order, 0], rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 4, "n_best": 2}], ids=["greedy", "samples"]
)
def test_contexts_of_equal_length_in_a_batch_continue_as_each_alone(
    trained: TextGenerator, monkeypatch: pytest.MonkeyPatch, options: dict
) -> None:
    monkeypatch.setattr(text_generator, "BATCH", 2)
    texts = ["It was", "He had", CONTEXT, "She is", "It", CONTEXT[1:] + "a"]
    together = trained.generate_all(texts, max_length=40, **options)
    for text, results in zip(texts, together, strict=True):
        alone = trained.generate(text, max_length=40, **options)
        assert [result.text for result in results] == [result.text for result in alone]
        for one, other in zip(results, alone, strict=True):
            assert one.source == other.source
            np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-4)
            np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)


def test_empty_context_begins_a_text_as_training_did(trained: TextGenerator) -> None:
    made = trained.generate("", max_length=8, temperature=1.0, seed=6)[0]
    ids = torch.tensor([trained.vocabulary.encode(made.text)])
    inputs = torch.cat([torch.tensor([[SOS]]), ids[:, :-1]], dim=1)
    log_probs = trained.model(torch.full((1, 1), PAD), inputs)[0].log_softmax(dim=-1)
    expected = log_probs[0].gather(1, ids[0, :, None]).squeeze(1).detach()
    np.testing.assert_allclose(made.log_probs, expected, atol=1e-4)
    np.testing.assert_allclose(trained.score("", made.text).log_probs, expected, atol=1e-4)
    assert trained.generate_all(["", "I", ""], max_length=8, temperature=1.0, seed=6)[2][0].text == made.text


def test_bfloat16_changes_log_probabilities_only_slightly(trained: TextGenerator) -> None:
    made = trained.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    half = load(trained.run, precision="bf16")
    assert isinstance(half, TextGenerator)
    assert next(half.model.parameters()).dtype == torch.bfloat16
    again = half.generate(CONTEXT, max_length=20, temperature=1.0, seed=5)[0]
    assert again.log_probs.dtype == made.log_probs.dtype
    np.testing.assert_allclose(trained.score(CONTEXT, again.text).log_probs, again.log_probs, atol=0.1)
