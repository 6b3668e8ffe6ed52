"""Self-critical training against the exact gradient of the expected reward."""

import itertools

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import GeneralAttention
from attendgen.losses.score_function import leave_one_out
from attendgen.losses.self_critical import ReplaySampler, self_critical
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.tasks.self_critical import SelfCriticalTask
from attendgen.text.vocabulary import Vocabulary
from helpers.errors import refusal

VOCAB_SIZE, WORDS = 3, 2


@pytest.mark.parametrize("samples", [2, 3])
def test_the_mean_gradient_with_a_leave_one_out_baseline_is_exact(samples):
    logits = torch.randn(WORDS, VOCAB_SIZE, dtype=torch.float64, requires_grad=True)
    captions = list(itertools.product(range(VOCAB_SIZE), repeat=WORDS))
    reward = dict(zip(captions, torch.rand(len(captions), dtype=torch.float64).tolist(), strict=True))

    def log_prob(caption: tuple[int, ...]) -> torch.Tensor:
        return sum(logits[t].log_softmax(0)[word] for t, word in enumerate(caption))

    exact = -sum(log_prob(caption).exp() * reward[caption] for caption in captions)
    (expected,) = torch.autograd.grad(exact, logits)
    total = 0.0
    for drawn in itertools.product(captions, repeat=samples):
        log_probs = torch.stack([log_prob(caption) for caption in drawn]).unsqueeze(0)
        rewards = torch.tensor([[reward[caption] for caption in drawn]], dtype=torch.float64)
        probability = log_probs.sum().exp().detach()
        total = total + probability * self_critical(log_probs, rewards, leave_one_out(rewards)).sum()
    (found,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(found, expected)


def test_leave_one_out_is_the_mean_of_the_other_samples():
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]


def test_replay_returns_the_given_weights_step_by_step():
    weights = torch.rand(2, 3, 4, 5)
    sampler = ReplaySampler(weights)
    for t in range(4):
        assert torch.equal(sampler(torch.rand(2, 3, 5)), weights[:, :, t])


def make_task(**settings) -> SelfCriticalTask:
    model = Captioner(5, SmallCNN((4,), size=8), GeneralAttention, embedding_dim=3, hidden=4)
    vocabulary = Vocabulary(["dog"], "caption")
    return SelfCriticalTask(model, vocabulary, torch.optim.Adam, lambda step: 1.0, DecodingConfig(), **settings)


@pytest.mark.parametrize(
    ("samples", "baseline", "message"),
    [
        (1, "leave_one_out", "samples=1: leave_one_out needs at least 2"),
        (0, "greedy", "samples=0: greedy needs at least 1"),
        (5, "beam", "baseline=beam: unknown"),
    ],
)
def test_samples_and_baselines_that_do_not_fit_are_refused(samples, baseline, message):
    assert f"task.{message}" in refusal(make_task, samples=samples, baseline=baseline)
    make_task(samples=1, baseline="greedy")


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperatures_that_are_not_above_zero_are_refused(temperature):
    assert f"task.temperature={temperature}: expected more than 0" in refusal(make_task, temperature=temperature)
