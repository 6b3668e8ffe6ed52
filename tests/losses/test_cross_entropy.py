import math

import pytest
import torch
from torch import Tensor

from attendgen.losses.cross_entropy import (
    coverage_loss,
    cross_entropy_per_caption,
    doubly_stochastic,
    masked_cross_entropy,
    masked_nll,
    token_nll,
)
from attendgen.utils.special_tokens import PAD

VOCAB_SIZE = 7
TARGETS = torch.tensor([[3, 1, 6, 2], [5, 2, PAD, PAD], [PAD, PAD, PAD, PAD], [4, 4, 2, PAD]])
REAL = [(i, j) for i, row in enumerate(TARGETS.tolist()) for j, target in enumerate(row) if target != PAD]


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(*TARGETS.shape, VOCAB_SIZE, dtype=torch.float64)


def probabilities(scores: list[float]) -> list[float]:
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def test_cross_entropy_equals_a_loop_over_targets(logits):
    nll, count = masked_cross_entropy(logits, TARGETS)
    expected = -sum(math.log(probabilities(logits[i, j].tolist())[TARGETS[i, j]]) for i, j in REAL)
    assert nll.item() == pytest.approx(expected, rel=1e-5)
    assert count.item() == len(REAL)


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_label_smoothing_is_cross_entropy_to_the_smoothed_distribution(logits, smoothing):
    expected = 0.0
    for i, j in REAL:
        wanted = [smoothing / VOCAB_SIZE] * VOCAB_SIZE
        wanted[TARGETS[i, j]] += 1 - smoothing
        assert sum(wanted) == pytest.approx(1)
        expected -= sum(q * math.log(p) for q, p in zip(wanted, probabilities(logits[i, j].tolist()), strict=True))
    nll, count = masked_cross_entropy(logits, TARGETS, smoothing)
    assert nll.item() == pytest.approx(expected, rel=1e-5)
    assert count.item() == len(REAL)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_log_probabilities_have_the_cross_entropy_of_their_logits(logits, smoothing):
    found = masked_nll(logits.log_softmax(dim=-1), TARGETS, smoothing)
    expected = masked_cross_entropy(logits.double(), TARGETS, smoothing)
    torch.testing.assert_close(found, expected, check_dtype=False)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sums_and_counts_add_up_over_rows(logits, smoothing):
    whole = masked_cross_entropy(logits, TARGETS, smoothing)
    parts = [masked_cross_entropy(row, target, smoothing) for row, target in zip(logits, TARGETS, strict=True)]
    for total, part in zip(whole, zip(*parts, strict=True), strict=True):
        assert total.item() == pytest.approx(sum(part).item(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_padding_has_no_influence_and_no_gradient(logits, smoothing):
    before = masked_cross_entropy(logits, TARGETS, smoothing)[0]
    logits[TARGETS == PAD] = 50.0
    logits.requires_grad_()
    after = masked_cross_entropy(logits, TARGETS, smoothing)[0]
    assert after.item() == before.item()
    (gradient,) = torch.autograd.grad(after, logits)
    assert ((gradient != 0).any(-1) == (TARGETS != PAD)).all()


def test_the_loss_of_padding_alone_is_zero(logits):
    nll, count = masked_cross_entropy(logits[2], TARGETS[2])
    assert nll.item() == count.item() == 0


def test_logits_in_half_precision_are_summed_in_single_precision(logits):
    rough = logits.bfloat16()
    nll, _ = masked_cross_entropy(rough, TARGETS)
    assert nll.dtype == torch.float32
    assert nll.item() == pytest.approx(masked_cross_entropy(rough.double(), TARGETS)[0].item(), rel=1e-5)


LENGTHS = (5, 2, 0, 3, 0, 1)  # of the mask's rows; 0 is a missing caption of an image


@pytest.fixture
def alphas() -> Tensor:
    return torch.randn(len(LENGTHS), max(LENGTHS), 4).softmax(-1)


@pytest.fixture
def mask() -> Tensor:
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)


def penalties(alphas: Tensor) -> list[float]:
    """Return the penalty of each row, zero where there is no caption."""
    values = []
    for rows, length in zip(alphas.tolist(), LENGTHS, strict=True):
        attended = [sum(rows[t][i] for t in range(length)) for i in range(len(rows[0]))]
        values.append(sum((1 - total) ** 2 for total in attended) if length else 0.0)
    return values


def test_the_doubly_stochastic_penalty_equals_a_loop(alphas, mask):
    assert doubly_stochastic(alphas, mask).tolist() == pytest.approx(penalties(alphas), rel=1e-5)


def test_padding_does_not_change_the_doubly_stochastic_penalty(alphas, mask):
    before = doubly_stochastic(alphas, mask)
    alphas[~mask] = torch.rand(int((~mask).sum()), 4)
    torch.testing.assert_close(doubly_stochastic(alphas, mask), before)
    present = torch.tensor(LENGTHS) > 0
    torch.testing.assert_close(doubly_stochastic(alphas[present], mask[present]), before[present])
    alphas.requires_grad_()
    (gradient,) = torch.autograd.grad(doubly_stochastic(alphas, mask).sum(), alphas)
    assert ((gradient != 0).any(-1) == mask).all()


def test_captions_of_an_image_are_independent_rows(alphas, mask):
    nested = doubly_stochastic(alphas.unflatten(0, (2, 3)), mask.unflatten(0, (2, 3)))
    torch.testing.assert_close(nested.flatten(), doubly_stochastic(alphas, mask))


def test_attending_to_every_region_once_has_no_penalty():
    order = torch.tensor([[2, 0, 3, 1]])
    alphas = torch.nn.functional.one_hot(order, 4).float()
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert doubly_stochastic(alphas, mask).item() == 0
    assert doubly_stochastic(alphas[:, :3], mask[:, :3]).item() == 1  # one region was never attended to


def test_a_missing_caption_has_no_penalty(alphas, mask):
    assert doubly_stochastic(alphas[2:3], mask[2:3]).item() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_per_caption_is_the_sum_of_the_captions_means(smoothing):
    torch.manual_seed(2)
    logits = torch.randn(2, 3, 4, 7)
    targets = torch.tensor([[[4, 5, 2, 0], [6, 2, 0, 0], [0, 0, 0, 0]], [[4, 4, 4, 2], [5, 2, 0, 0], [6, 5, 2, 0]]])
    means = []
    for rows, caption in zip(logits.flatten(0, 1), targets.flatten(0, 1), strict=True):
        if caption.any():
            nll, words = masked_cross_entropy(rows[None], caption[None], smoothing)
            means.append(nll / words)
    assert len(means) == 5
    total, captions = cross_entropy_per_caption(logits, targets, smoothing)
    torch.testing.assert_close(total / captions, torch.stack(means).mean())


def test_token_losses_sum_to_the_cross_entropy():
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[1, 4, 0], [2, 0, 0]])
    nll = token_nll(logits, targets)
    assert not nll[targets == PAD].any()
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
    torch.testing.assert_close(nll.sum() / 3, mean)


def test_the_coverage_loss_is_a_sum_over_words_and_positions():
    alphas = torch.rand(2, 4, 3).softmax(dim=-1)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    found = coverage_loss(alphas, mask)
    for row, length in enumerate((4, 2)):
        expected = sum(
            min(alphas[row, t, i].item(), sum(alphas[row, before, i].item() for before in range(t)))
            for t in range(length)
            for i in range(3)
        )
        assert found[row].item() == pytest.approx(expected, abs=1e-6)
