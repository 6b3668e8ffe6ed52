"""Parts of estimators; tests/testing compares their gradients with exact ones."""

import pytest
import torch
from torch import Tensor

from attendgen.layers.hard_attention import CategoricalSampler
from attendgen.losses.score_function import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    Samples,
    SoftBaselineEstimator,
    cost_to_go,
    log_probability,
    negative_entropy,
    reinforce,
)
from helpers.processes import join_group, run_ranks

SAMPLER = CategoricalSampler()  # of the estimators; they are given the sampled locations here


def make_samples(nll: Tensor, log_alpha: Tensor, mask: Tensor, soft: Tensor | None = None) -> Samples:
    """What an estimator is given, for those that read no more than these."""
    empty = nll.new_zeros(*nll.shape, 0)
    return Samples(nll, log_alpha, mask, empty, empty, empty, nll.new_zeros(len(nll), 0), soft)


NLL = torch.tensor([[[1.0, 3.0, 0.0]], [[2.0, 0.0, 0.0]], [[4.0, 5.0, 9.0]]])


def count_batch(estimator: MovingAverageBaseline, nll: Tensor) -> None:
    """Give an estimator a batch of captions; a loss of 0 is padding."""
    estimator(make_samples(nll, torch.zeros_like(nll), nll[:, 0] > 0))


def test_the_moving_average_is_updated_by_the_steps_of_a_training():
    estimator = MovingAverageBaseline(SAMPLER, decay=0.9)
    for _ in range(2):
        count_batch(estimator, NLL[:2])
        estimator.end_step()
    assert estimator.baseline.item() == pytest.approx(0.1 * 2.0 * (1 + 0.9))
    count_batch(estimator.eval(), NLL)
    assert estimator.sums.tolist() == [0, 0]


def test_the_moving_average_does_not_depend_on_how_a_step_is_split():
    def update(*parts: slice) -> float:
        estimator = MovingAverageBaseline(SAMPLER, decay=0.75)
        for part in parts:
            count_batch(estimator, NLL[part])
        estimator.end_step()
        return estimator.baseline.item()

    def update_in_two_processes(rank: int) -> float:
        join_group(rank)
        return update(slice(2, 3) if rank else slice(0, 2))

    mean = NLL.sum().item() / 6
    assert update(slice(0, 3)) == pytest.approx(0.25 * mean)
    assert update(slice(0, 1), slice(1, 3)) == pytest.approx(0.25 * mean)
    assert run_ranks(update_in_two_processes) == [pytest.approx(0.25 * mean)] * 2


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
