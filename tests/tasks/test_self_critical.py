"""Self-critical training: the loss, its dropout masks, and the gradient of tokens that are never drawn."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from attendgen.decoding.protocol import Decoded
from attendgen.layers.state import AttentiveState, Memory, take_rows
from attendgen.metrics.cider import CiderD
from attendgen.tasks.rewards import make_reward
from attendgen.tasks.self_critical import SelfCriticalTask
from helpers.errors import refusal

REFERENCES = {0: ["a red square"], 1: ["blue square", "a square"]}
ALLOWED = [2, 4, 5, 6, 7]  # <eos> and words; <pad>, <sos> and <unk> are never drawn
TEMPERATURE = 0.6


class Step(NamedTuple):
    """A training step with dropout, and what it computed.

    Attributes:
        encoded: memory and state of each call of the model's `encode`.
        masks: the dropout masks that were in use at `encode`, at each decoding step, and at scoring.
        decoded: samples, and the greedy captions if they are the baseline.
    """

    task: SelfCriticalTask
    loss: Tensor
    encoded: list[tuple[Memory, AttentiveState]]
    masks: list[dict[str, Tensor]]
    decoded: list[Decoded]


@pytest.fixture(params=["greedy", "leave_one_out"])
def baseline(request) -> str:
    return request.param


@pytest.fixture(params=["soft", "sample"])
def inference_attention(request) -> str:
    return request.param


@pytest.fixture
def step(make_task, batch, baseline, inference_attention, monkeypatch) -> Step:
    settings = {"samples": 3, "baseline": baseline, "temperature": TEMPERATURE}
    task = make_task(SelfCriticalTask, inference_attention, **settings)
    model = task.model
    model.memory_dropout = model.dropout.p = model.word_dropout.p = 0.5
    task.reward = make_reward(REFERENCES, task.vocabulary)
    encoded, masks, decoded = [], [], []

    def record(name, results):
        original = getattr(model, name)

        def call(*arguments, **options):
            masks.append(model.masks)
            results.append(original(*arguments, **options))
            return results[-1]

        monkeypatch.setattr(model, name, call)

    record("encode", encoded)
    record("step", [])
    record("score_sampled", [])
    decode = task._decode
    monkeypatch.setattr(task, "_decode", lambda *arguments: decoded.append(decode(*arguments)) or decoded[-1])
    loss = task.training_step(batch, 0)
    return Step(task, loss, encoded, masks, decoded)


def test_sampling_and_scoring_use_the_same_dropout_masks(step):
    assert len(step.encoded) == 1  # the features' mask is drawn at each call
    assert len(step.masks) > 3
    assert all(masks is step.masks[0] for masks in step.masks)
    for name, size in {"word": 6, "hidden": 7, "deep": 6}.items():
        assert step.masks[0][name].shape == (size,)
        assert set(step.masks[0][name].tolist()) <= {0.0, 2.0}
    memory, _ = step.encoded[0]
    assert (memory.values == 0).float().mean() > 0.2


def test_model_is_in_training_mode_after_the_step(step):
    assert step.task.model.training
    assert step.task.model.masks is None


def score_caption(step: Step, image: int, tokens: list[int], attention: Tensor) -> float:
    """Return the log-probability of a sample and, with hard attention, of its locations, word by word."""
    model, masks = step.task.model.eval(), step.masks[0]
    memory, state = (take_rows(part, torch.tensor([image])) for part in step.encoded[0])
    log_prob = 0.0
    for t, (token, drawn) in enumerate(zip([1, *tokens[:-1]], tokens, strict=True)):
        word = model.embedding(torch.tensor([token])) * masks["word"]
        weights = attention[t]
        state, attended = model.decoder.attend_step(word, state, memory, lambda alpha, w=weights: w.view_as(alpha))
        deep = model.deep_hidden(state.hidden * masks["hidden"]) + model.deep_context(attended.gated)
        logits = model.output((word + deep).tanh() * masks["deep"])[0] / TEMPERATURE
        log_prob += (logits[drawn] - logits[ALLOWED].logsumexp(0)).item()
        if model.is_hard:
            log_prob += attended.alpha[0][weights.argmax()].log().item()
    return log_prob


def test_loss_equals_the_formula(step, baseline):
    task, drawn, cider = step.task, step.decoded[0], CiderD(REFERENCES, end=True)

    def reward(image: int, tokens: list[int]) -> float:
        return cider(image, task.vocabulary.decode(tokens), 2 in tokens)

    total = 0.0
    for image in range(2):
        rewards = [reward(image, tokens) for tokens in drawn.tokens[image].tolist()]
        for n in range(3):
            if baseline == "greedy":
                below = reward(image, step.decoded[1].tokens[image, 0].tolist())
            else:
                below = sum(value for m, value in enumerate(rewards) if m != n) / 2
            tokens = [token for token in drawn.tokens[image, n].tolist() if token]
            log_prob = score_caption(step, image, tokens, drawn.attention[image, n])
            total -= (rewards[n] - below) * log_prob / 6
    assert total != 0
    assert step.loss.item() == pytest.approx(total, abs=1e-4)


def test_greedy_baseline_decodes_once_more(step, baseline):
    assert [decoded.tokens.size(1) for decoded in step.decoded] == ([3, 1] if baseline == "greedy" else [3])


def test_suppressed_tokens_get_no_gradient(step):
    step.loss.backward()
    gradient = step.task.model.output.bias.grad
    assert not gradient[[0, 1, 3]].any()
    assert gradient[ALLOWED].all()
    assert step.task.model.decoder.attention.score.weight.grad.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "mean"}, "task.baseline=mean: unknown; choose one of leave_one_out, greedy"),
        ({"samples": 1}, "task.samples=1: leave_one_out needs at least 2"),
        ({"samples": 0, "baseline": "greedy"}, "task.samples=0: greedy needs at least 1"),
        ({"temperature": 0.0}, "task.temperature=0.0: expected more than 0"),
    ],
)
def test_wrong_settings_are_refused(make_task, settings, message):
    assert refusal(make_task, SelfCriticalTask, **settings) == message


def test_attention_to_the_most_probable_location_is_refused(make_task):
    task = make_task(SelfCriticalTask, inference_attention="argmax")
    message = refusal(task.setup, "fit")
    assert "model.inference_attention=argmax" in message
