"""Self-critical training against the exact gradient of the expected reward."""

import itertools

import pytest
import torch

from attendgen.losses.score_function import leave_one_out
from attendgen.losses.self_critical import Replay, SelfCritical, self_critical
from attendgen.utils.errors import UserError

SYMBOLS, WORDS = 3, 2


@pytest.mark.parametrize("samples", [2, 3])
def test_with_the_others_as_baseline_the_mean_gradient_is_exact(samples):
    logits = torch.randn(WORDS, SYMBOLS, dtype=torch.float64, requires_grad=True)
    captions = list(itertools.product(range(SYMBOLS), repeat=WORDS))
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


def test_leave_one_out_is_the_mean_of_the_others():
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]


def test_replay_looks_where_it_looked():
    weights = torch.rand(2, 3, 4, 5)
    select = Replay(weights)
    for t in range(4):
        assert torch.equal(select(torch.rand(2, 3, 5)), weights[:, :, t])


@pytest.mark.parametrize(("samples", "baseline"), [(1, "leave_one_out"), (0, "greedy"), (5, "beam")])
def test_what_makes_no_sense_is_named(samples, baseline):
    with pytest.raises(UserError, match=r"task\.self_critical\."):
        SelfCritical(samples, baseline)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_makes_no_sense_is_named(temperature):
    with pytest.raises(UserError, match=r"task\.self_critical\.temperature"):
        SelfCritical(temperature=temperature)
