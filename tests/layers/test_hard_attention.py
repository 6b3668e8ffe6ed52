import pytest
import torch

from attendgen.layers.hard_attention import (
    INFERENCE_ATTENTION,
    ArgmaxSampler,
    CategoricalSampler,
    SemiSampler,
    StraightThroughGumbelSampler,
    draw_weights,
)

ALPHA = torch.tensor([0.1, 0.0, 0.5, 0.15, 0.25])
DRAWS = 20_000


def mean_weights(sampler) -> torch.Tensor:
    return draw_weights(sampler, ALPHA.expand(DRAWS, -1)).weights.mean(dim=0)


@pytest.mark.parametrize(
    "sampler",
    [CategoricalSampler(), SemiSampler(0.7), StraightThroughGumbelSampler(0.5), StraightThroughGumbelSampler(2.0)],
)
def test_the_mean_of_the_weights_is_alpha(sampler):
    error = (ALPHA * (1 - ALPHA) / DRAWS).sqrt()
    assert ((mean_weights(sampler) - ALPHA).abs() <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("sampler", [ArgmaxSampler(), CategoricalSampler(), StraightThroughGumbelSampler(1.0)])
def test_weights_are_one_hot_and_never_at_a_location_of_weight_zero(sampler):
    weights = draw_weights(sampler, ALPHA.expand(50, 4, -1)).weights
    assert weights.shape == (50, 4, 5)
    torch.testing.assert_close(weights.max(dim=-1).values, torch.ones(50, 4))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(50, 4))
    assert not weights[..., 1].any()


def test_draws_have_the_frequencies_of_alpha():
    """Pearson's chi-square of counts, whose 99.99 % quantile for 63 degrees of freedom is 113."""
    alpha = torch.randn(64).softmax(dim=-1)
    counts = CategoricalSampler()(alpha.expand(10 * DRAWS, -1)).sum(dim=0)
    expected = 10 * DRAWS * alpha
    assert (counts - expected).square().div(expected).sum() < 113


def test_a_masked_location_is_not_drawn_at_the_smallest_random_number(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "exponential_", torch.Tensor.zero_)
    weights = CategoricalSampler()(torch.tensor([[0.0, 0.4, 0.6], [0.0, 0.0, 1.0]]))
    assert not weights[:, 0].any()
    assert weights[1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("sampler", [CategoricalSampler(), SemiSampler(0.5), StraightThroughGumbelSampler()])
def test_attention_that_is_not_a_number_raises_no_error(sampler):
    """The loss is NaN then, and ends the training; an error within a kernel would end the process."""
    assert draw_weights(sampler, torch.full((3, 5), float("nan"))).weights.shape == (3, 5)


def test_argmax_chooses_the_location_of_the_greatest_weight():
    assert ArgmaxSampler()(ALPHA).tolist() == [0, 0, 1, 0, 0]


def test_inference_attention_is_soft_argmax_or_sampled():
    assert INFERENCE_ATTENTION["soft"] is None
    assert INFERENCE_ATTENTION["argmax"](ALPHA).tolist() == [0, 0, 1, 0, 0]
    error = (ALPHA * (1 - ALPHA) / DRAWS).sqrt()
    assert ((mean_weights(INFERENCE_ATTENTION["sample"]) - ALPHA).abs() <= 5 * error + 1e-6).all()


def test_semi_sampling_keeps_alpha_in_the_other_rows():
    weights = SemiSampler(0.3)(ALPHA.expand(DRAWS, -1))
    kept = (weights == ALPHA).all(dim=-1).float().mean().item()
    assert abs(kept - 0.7) < 5 * (0.21 / DRAWS) ** 0.5


def test_only_straight_through_weights_have_a_gradient():
    alpha = ALPHA.expand(7, -1).clone().requires_grad_()
    assert not CategoricalSampler()(alpha).requires_grad
    weights, relaxed, noise = StraightThroughGumbelSampler(1.0)(alpha)
    torch.testing.assert_close(relaxed, (ALPHA.log() + noise).softmax(dim=-1), atol=1e-6, rtol=1e-5)
    (weights * torch.arange(5.0)).sum().backward()
    assert alpha.grad.any()


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature 0"):
        StraightThroughGumbelSampler(0.0)
