"""Every estimator's mean gradient is what it says, and the check of it finds mistakes."""

import pytest
import torch
from torch import nn

from attendgen.layers import CategoricalSampler, SemiSampler, StraightThroughGumbelSampler
from attendgen.losses import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
    reinforce,
)
from attendgen.losses.score_function import cost_to_go, expected_nll
from attendgen.testing import check_estimator, enumerate_paths
from attendgen.utils.errors import UserError

SAMPLER = CategoricalSampler()


def make_moving_average(
    baseline: float, weight: float | None, sampler=SAMPLER, entropy: float = 0.0
) -> MovingAverageBaseline:
    estimator = MovingAverageBaseline(sampler, weight, entropy)
    estimator.baseline.fill_(baseline)
    return estimator


class LearnedBaseline(nn.Module):
    """A baseline of the hidden state before a word, with parameters of its own."""

    num_samples, soft = 1, False

    def __init__(self, shift: int = 1, attached: bool = False) -> None:
        super().__init__()
        self.sampler = SAMPLER
        self.shift, self.attached = shift, attached
        self.baseline = nn.Linear(4, 1).double()

    def forward(self, samples):
        before = nn.functional.pad(samples.hidden, (0, 0, self.shift, -self.shift))
        predicted = self.baseline(before if self.attached else before.detach()).squeeze(-1) * samples.mask.unsqueeze(1)
        cost = cost_to_go(samples.nll)
        error = (cost.detach() - predicted).square().sum(dim=-1).mean(dim=-1)
        return expected_nll(samples) + reinforce(cost, predicted, samples.log_alpha) + error


UNBIASED = {
    "leave one out, two samples": LeaveOneOutEstimator(SAMPLER, num_samples=2),
    "leave one out, three samples": LeaveOneOutEstimator(SAMPLER, num_samples=3),
    "soft baseline": SoftBaselineEstimator(SAMPLER),
    "soft baseline, two samples": SoftBaselineEstimator(SAMPLER, num_samples=2),
    "learned baseline": LearnedBaseline(),
}


@pytest.mark.parametrize("estimator", UNBIASED.values(), ids=UNBIASED)
def test_unbiased_estimators_average_to_the_exact_gradient(estimator):
    check_estimator(estimator)


@pytest.mark.parametrize("baseline", [0.0, 1.7])
def test_the_moving_average_is_unbiased_if_its_weight_is_the_number_of_words(baseline):
    check_estimator(make_moving_average(baseline, weight=None), lengths=(1, 2, 3))
    check_estimator(make_moving_average(baseline, weight=2.0), lengths=(2,))
    check_estimator(make_moving_average(baseline, weight=2.0), lengths=(2, 1), biased=True)


BIASED = {
    "moving average of the authors": MovingAverageBaseline(SemiSampler(0.5)),
    "semi-sampling": make_moving_average(1.7, 2.0, SemiSampler(0.5)),
    "entropy": make_moving_average(1.7, 2.0, entropy=0.1),
    "straight-through Gumbel": StraightThroughGumbelEstimator(StraightThroughGumbelSampler()),
    "a baseline that sees the word": LearnedBaseline(shift=0),
    "an error that trains the model": LearnedBaseline(attached=True),
}


@pytest.mark.parametrize("estimator", BIASED.values(), ids=BIASED)
def test_a_biased_estimator_is_found_with_its_difference(estimator):
    options = {"lengths": (2,)}
    with pytest.raises(AssertionError, match=r"differs by [\d.e-]+ at \("):
        check_estimator(estimator, **options)
    check_estimator(estimator, biased=True, **options)


def test_the_message_names_the_parameter():
    message = r"captions of 2 words, the mean .* gradient of [\w.]+\.weight differs by"
    with pytest.raises(AssertionError, match=message):
        check_estimator(StraightThroughGumbelEstimator(SAMPLER))


def test_an_estimator_that_is_called_biased_must_be():
    with pytest.raises(AssertionError, match="biased=True, but"):
        check_estimator(SoftBaselineEstimator(SAMPLER), biased=True)


def test_too_many_ways_of_looking_are_refused():
    with pytest.raises(UserError, match="43046721 ways of looking"):
        check_estimator(LeaveOneOutEstimator(SAMPLER, num_samples=4), lengths=(4,))


def test_paths_are_all_different_and_complete():
    paths = enumerate_paths(3, 2, samples=2)
    assert paths.shape == (81, 2, 2)
    assert len({tuple(path) for path in paths.flatten(1).tolist()}) == 81
    assert torch.equal(enumerate_paths(2, 2), torch.tensor([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]]))
