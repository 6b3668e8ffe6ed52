"""Estimators against the gradient that sums over every way of looking."""

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.hard_attention import expected
from attendgen.losses.cross_entropy import token_nll
from attendgen.losses.score_function import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
    cost_to_go,
    log_probability,
    negative_entropy,
    reinforce,
)
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN

REGIONS, WORDS, DIM = 3, 2, 4
INPUTS, OUTPUTS = [1, 4], [4, 2]


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(3)
    encoder = SmallCNN((DIM,), size=8)
    model = Captioner(6, encoder, partial(AdditiveAttention, dim=5), embedding_dim=3, hidden=4, dropout=0.0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # places that matter
    return model


@pytest.fixture
def annotations(model) -> Tensor:
    return torch.randn(1, REGIONS, DIM, dtype=torch.float64)


class Scripted:
    """Looks where it is told, step by step."""

    def __init__(self, places: Tensor) -> None:
        self.places = places  # combinations paths words
        self.step = 0

    def __call__(self, alpha: Tensor) -> Tensor:
        places = self.places[..., self.step].reshape(alpha.shape[:-1])
        self.step += 1
        return torch.nn.functional.one_hot(places, REGIONS).to(alpha.dtype)


def forward_sampled(model: Captioner, annotations: Tensor, places: Tensor, soft: bool = False):
    """Nats, log alpha of the places, and the soft path's nats, for every combination of paths."""
    combinations, paths, _ = places.shape
    inputs = torch.tensor(INPUTS).expand(1, combinations, -1)
    found = model.forward_sampled(annotations, inputs, Scripted(places), paths, soft)
    logits, alphas, weights = (part[0] for part in found)
    targets = torch.tensor(OUTPUTS).expand(combinations, paths + soft, -1)
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    nats = nats.view(targets.shape)
    chosen = (weights * alphas.log()).sum(dim=-1)[:, :paths]
    return nats[:, :paths], chosen, nats[:, -1] if soft else None


def gradients(model: Captioner, loss: Tensor) -> Tensor:
    parameters = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder")]
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)]
    )


def exact_gradient(model: Captioner, annotations: Tensor) -> Tensor:
    places = torch.tensor(list(itertools.product(range(REGIONS), repeat=WORDS))).unsqueeze(1)
    nats, log_alpha, _ = forward_sampled(model, annotations, places)
    probability = log_alpha.sum(dim=-1).exp().squeeze(1)
    torch.testing.assert_close(probability.sum().item(), 1.0)
    return gradients(model, (probability * nats.sum(dim=-1).squeeze(1)).sum())


def mean_gradient(model: Captioner, annotations: Tensor, estimator) -> Tensor:
    """The estimator's gradient averaged over all combinations of paths, by their probability."""
    single = list(itertools.product(range(REGIONS), repeat=WORDS))
    places = torch.tensor(list(itertools.product(single, repeat=estimator.num_samples)))
    nats, log_alpha, soft = forward_sampled(model, annotations, places, estimator.soft)
    probability = log_alpha.sum(dim=(1, 2)).exp().detach()
    torch.testing.assert_close(probability.sum().item(), 1.0)
    mask = torch.ones(len(places), WORDS, dtype=torch.bool)
    estimate = nats.sum(dim=-1).mean(dim=-1) + estimator(nats, log_alpha, mask, soft)
    return gradients(model, (probability * estimate).sum())


def moving(baseline: float) -> MovingAverageBaseline:
    # the cost is a mean over words: weighted by their number it is the sum
    estimator = MovingAverageBaseline(expected, weight=float(WORDS), entropy=0.0).eval()
    estimator.baseline.fill_(baseline)
    return estimator


@pytest.mark.parametrize(
    "estimator",
    [
        moving(0.0),
        moving(1.7),
        LeaveOneOutEstimator(expected, num_samples=2),
        LeaveOneOutEstimator(expected, num_samples=3),
        SoftBaselineEstimator(expected),
        SoftBaselineEstimator(expected, num_samples=2),
    ],
    ids=["no baseline", "a baseline", "one other", "two others", "soft", "soft, two paths"],
)
def test_unbiased_estimators_average_to_the_exact_gradient(model, annotations, estimator):
    exact = exact_gradient(model, annotations)
    assert exact.abs().max() > 0.01
    torch.testing.assert_close(mean_gradient(model, annotations, estimator), exact, atol=1e-5, rtol=0)


def test_without_the_score_function_part_the_gradient_is_another(model, annotations):
    exact = exact_gradient(model, annotations)
    assert (mean_gradient(model, annotations, StraightThroughGumbelEstimator(expected)) - exact).abs().max() > 1e-3


def test_the_moving_baseline_moves_in_training_alone():
    estimator = MovingAverageBaseline(expected, decay=0.9)
    nats = torch.tensor([[[1.0, 3.0, 0.0]], [[2.0, 0.0, 0.0]]])
    mask = nats[:, 0] > 0
    for _ in range(2):
        estimator(nats, torch.zeros_like(nats), mask)
    assert estimator.baseline.item() == pytest.approx(0.1 * 2.0 * (1 + 0.9))
    estimator.eval()(nats, torch.zeros_like(nats), mask)
    assert estimator.baseline.item() == pytest.approx(0.1 * 2.0 * (1 + 0.9))


def test_padding_does_not_count():
    nats, log_alpha = torch.rand(3, 2, 4), torch.randn(3, 2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    nats, log_alpha = nats * mask.unsqueeze(1), log_alpha * mask.unsqueeze(1)
    for estimator in (
        MovingAverageBaseline(expected).eval(),
        LeaveOneOutEstimator(expected, 2),
        SoftBaselineEstimator(expected, 2),
    ):
        found = estimator(nats, log_alpha, mask, nats[:, 0])
        alone = estimator(nats[1:2, :, :2], log_alpha[1:2, :, :2], mask[1:2, :2], nats[1:2, 0, :2])
        torch.testing.assert_close(found[1], alone[0])
        assert found[2] == 0


def test_what_is_to_come():
    assert cost_to_go(torch.tensor([1.0, 2.0, 4.0])).tolist() == [7.0, 6.0, 4.0]


def test_only_log_alpha_carries_the_gradient():
    cost, baseline = torch.rand(2, 1, 3, requires_grad=True), torch.rand(2, 1, 3, requires_grad=True)
    log_alpha = torch.randn(2, 1, 3, requires_grad=True)
    reinforce(cost, baseline, log_alpha).sum().backward()
    assert cost.grad is None
    assert baseline.grad is None
    torch.testing.assert_close(log_alpha.grad, (cost - baseline).detach())


def test_entropy_and_log_probability():
    alpha = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(negative_entropy(alpha), torch.tensor([0.5, 1.0]).log() * torch.tensor([1.0, 1.0]))
    chosen = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(log_probability(alpha, chosen), torch.tensor([0.5, 1.0]).log())


def test_token_nats_sum_to_the_cross_entropy():
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[1, 4, 0], [2, 0, 0]])
    nats = token_nll(logits, targets)
    assert not nats[targets == 0].any()
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)
    torch.testing.assert_close(nats.sum() / 3, mean)


def test_one_other_is_needed():
    with pytest.raises(ValueError, match="at least 2"):
        LeaveOneOutEstimator(expected, num_samples=1)
