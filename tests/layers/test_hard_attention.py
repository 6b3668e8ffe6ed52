import pytest
import torch

from attendgen.layers.hard_attention import SemiSampler, StraightThroughGumbelSampler, argmax, expected, sampled

ALPHA = torch.tensor([0.1, 0.0, 0.5, 0.15, 0.25])
DRAWS = 20_000


def frequencies(select) -> torch.Tensor:
    return select(ALPHA.expand(DRAWS, -1)).mean(dim=0)


@pytest.mark.parametrize(
    "select", [sampled, SemiSampler(0.7), StraightThroughGumbelSampler(0.5), StraightThroughGumbelSampler(2.0)]
)
def test_on_average_the_weights_are_alpha(select):
    error = (ALPHA * (1 - ALPHA) / DRAWS).sqrt()
    assert ((frequencies(select) - ALPHA).abs() <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("select", [argmax, sampled, StraightThroughGumbelSampler(1.0)])
def test_one_place_is_chosen_and_none_of_weight_zero(select):
    weights = select(ALPHA.expand(50, 4, -1))
    assert weights.shape == (50, 4, 5)
    torch.testing.assert_close(weights.max(dim=-1).values, torch.ones(50, 4))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(50, 4))
    assert not weights[..., 1].any()


def test_argmax_takes_the_greatest_and_expected_all():
    assert argmax(ALPHA).tolist() == [0, 0, 1, 0, 0]
    assert expected(ALPHA) is ALPHA


def test_semi_sampling_takes_alpha_for_the_rest():
    weights = SemiSampler(0.3)(ALPHA.expand(DRAWS, -1))
    kept = (weights == ALPHA).all(dim=-1).float().mean().item()
    assert abs(kept - 0.7) < 5 * (0.21 / DRAWS) ** 0.5


def test_only_the_straight_through_choice_has_a_gradient():
    alpha = ALPHA.expand(7, -1).clone().requires_grad_()
    assert not sampled(alpha).requires_grad
    weights = StraightThroughGumbelSampler(1.0)(alpha)
    (weights * torch.arange(5.0)).sum().backward()
    assert alpha.grad.any()


def test_a_cold_gumbel_is_wrong():
    with pytest.raises(ValueError, match="temperature 0"):
        StraightThroughGumbelSampler(0.0)
