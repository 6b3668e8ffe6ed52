"""Estimators against the exact gradient, a sum over all sequences of locations."""

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.hard_attention import CategoricalSampler
from attendgen.losses.score_function import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    Samples,
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
SAMPLER = CategoricalSampler()  # of the estimators; they are given the sampled locations here


@pytest.fixture
def model() -> Captioner:
    torch.manual_seed(3)
    encoder = SmallCNN((DIM,), size=8)
    model = Captioner(6, encoder, partial(AdditiveAttention, dim=5), embedding_dim=3, hidden=4, dropout=0.0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # so that the location matters
    return model


@pytest.fixture
def features(model) -> Tensor:
    return torch.randn(1, REGIONS, DIM, dtype=torch.float64)


class ScriptedSampler:
    """Choose given locations, step by step."""

    def __init__(self, locations: Tensor) -> None:
        self.locations = locations  # combinations samples words
        self.step = 0

    def __call__(self, alpha: Tensor) -> Tensor:
        locations = self.locations[..., self.step].reshape(alpha.shape[:-1])
        self.step += 1
        return torch.nn.functional.one_hot(locations, REGIONS).to(alpha.dtype)


def make_samples(nll: Tensor, log_alpha: Tensor, mask: Tensor, soft: Tensor | None = None) -> Samples:
    """What an estimator is given, for those that read no more than these."""
    empty = nll.new_zeros(*nll.shape, 0)
    return Samples(nll, log_alpha, mask, empty, empty, empty, nll.new_zeros(len(nll), 0), soft)


def score(model: Captioner, features: Tensor, locations: Tensor, soft: bool = False):
    """Return nll and log alpha of the locations of each combination of samples, and the nll of soft attention."""
    combinations, samples, _ = locations.shape
    inputs = torch.tensor(INPUTS).expand(1, combinations, -1)
    found = model.forward_sampled(features, inputs, ScriptedSampler(locations), samples, soft)
    logits, alphas, weights = (part[0] for part in found[:3])
    targets = torch.tensor(OUTPUTS).expand(combinations, samples + soft, -1)
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    nll = nll.view(targets.shape)
    chosen = (weights * alphas.log()).sum(dim=-1)[:, :samples]
    return nll[:, :samples], chosen, nll[:, -1] if soft else None


def gradients(model: Captioner, loss: Tensor) -> Tensor:
    parameters = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder")]
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)]
    )


def exact_gradient(model: Captioner, features: Tensor) -> Tensor:
    locations = torch.tensor(list(itertools.product(range(REGIONS), repeat=WORDS))).unsqueeze(1)
    nll, log_alpha, _ = score(model, features, locations)
    probability = log_alpha.sum(dim=-1).exp().squeeze(1)
    torch.testing.assert_close(probability.sum().item(), 1.0)
    return gradients(model, (probability * nll.sum(dim=-1).squeeze(1)).sum())


def mean_gradient(model: Captioner, features: Tensor, estimator) -> Tensor:
    """The estimator's gradient averaged over all combinations of samples, weighted by their probability."""
    single = list(itertools.product(range(REGIONS), repeat=WORDS))
    locations = torch.tensor(list(itertools.product(single, repeat=estimator.num_samples)))
    nll, log_alpha, soft = score(model, features, locations, estimator.soft)
    probability = log_alpha.sum(dim=(1, 2)).exp().detach()
    torch.testing.assert_close(probability.sum().item(), 1.0)
    mask = torch.ones(len(locations), WORDS, dtype=torch.bool)
    return gradients(model, (probability * estimator(make_samples(nll, log_alpha, mask, soft))).sum())


def make_moving_average(baseline: float) -> MovingAverageBaseline:
    # the cost is a mean over words: weighted by their number it is the sum
    estimator = MovingAverageBaseline(SAMPLER, weight=float(WORDS), entropy=0.0).eval()
    estimator.baseline.fill_(baseline)
    return estimator


@pytest.mark.parametrize(
    "estimator",
    [
        make_moving_average(0.0),
        make_moving_average(1.7),
        LeaveOneOutEstimator(SAMPLER, num_samples=2),
        LeaveOneOutEstimator(SAMPLER, num_samples=3),
        SoftBaselineEstimator(SAMPLER),
        SoftBaselineEstimator(SAMPLER, num_samples=2),
    ],
    ids=["zero baseline", "constant baseline", "two samples", "three samples", "soft", "soft, two samples"],
)
def test_unbiased_estimators_average_to_the_exact_gradient(model, features, estimator):
    exact = exact_gradient(model, features)
    assert exact.abs().max() > 0.01
    torch.testing.assert_close(mean_gradient(model, features, estimator), exact, atol=1e-5, rtol=0)


def test_without_the_score_function_part_the_gradient_is_wrong(model, features):
    exact = exact_gradient(model, features)
    assert (mean_gradient(model, features, StraightThroughGumbelEstimator(SAMPLER)) - exact).abs().max() > 1e-3


def test_the_moving_average_is_updated_in_training_only():
    estimator = MovingAverageBaseline(SAMPLER, decay=0.9)
    nll = torch.tensor([[[1.0, 3.0, 0.0]], [[2.0, 0.0, 0.0]]])
    mask = nll[:, 0] > 0
    for _ in range(2):
        estimator(make_samples(nll, torch.zeros_like(nll), mask))
    assert estimator.baseline.item() == pytest.approx(0.1 * 2.0 * (1 + 0.9))
    estimator.eval()(make_samples(nll, torch.zeros_like(nll), mask))
    assert estimator.baseline.item() == pytest.approx(0.1 * 2.0 * (1 + 0.9))


def test_padding_does_not_change_an_estimator():
    nll, log_alpha = torch.rand(3, 2, 4), torch.randn(3, 2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    nll, log_alpha = nll * mask.unsqueeze(1), log_alpha * mask.unsqueeze(1)
    for estimator in (
        MovingAverageBaseline(SAMPLER).eval(),
        LeaveOneOutEstimator(SAMPLER, 2),
        SoftBaselineEstimator(SAMPLER, 2),
    ):
        found = estimator(make_samples(nll, log_alpha, mask, nll[:, 0]))
        alone = estimator(make_samples(nll[1:2, :, :2], log_alpha[1:2, :, :2], mask[1:2, :2], nll[1:2, 0, :2]))
        torch.testing.assert_close(found[1], alone[0])
        assert found[2] == 0


def test_the_cost_to_go_is_the_sum_of_the_later_losses():
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


def test_leave_one_out_refuses_a_single_sample():
    with pytest.raises(ValueError, match="at least 2"):
        LeaveOneOutEstimator(SAMPLER, num_samples=1)
