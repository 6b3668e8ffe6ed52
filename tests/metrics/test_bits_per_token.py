import math
import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy

from attendgen.metrics.bits_per_token import BitsPerToken, add_pairs, perplexity


def test_a_uniform_model_needs_log2_of_the_vocabulary_size() -> None:
    metric = BitsPerToken()
    for count in (1, 7, 3):  # uneven batches
        logits = torch.zeros(count, 8)
        metric.update(cross_entropy(logits, torch.arange(count), reduction="sum"), count)
    bits = metric.compute().item()
    assert bits == pytest.approx(3)
    assert perplexity(bits) == pytest.approx(8)


def test_batches_are_weighted_by_their_tokens() -> None:
    """One token of 4 bits and three of 2 bits: 10 bits in 4 tokens."""
    metric = BitsPerToken()
    metric.update(torch.tensor(4 * math.log(2)), torch.tensor(1))
    metric.update(torch.tensor(6 * math.log(2)), 3)
    assert metric.compute().item() == pytest.approx(10 / 4)


def test_long_sums_are_exact() -> None:
    """In float32, 2^24 + 1 is 2^24: the small batches would vanish."""
    metric = BitsPerToken()
    metric.update(torch.tensor(2.0**24), 1)
    for _ in range(8):
        metric.update(torch.tensor(1.0), 0)
    assert metric.nll.tolist() == [2**24 + 8, 0]
    assert metric.nll.dtype == torch.float32, "not every device has double precision"


def test_sums_are_as_precise_as_in_double_precision() -> None:
    torch.manual_seed(1)
    batches = torch.rand(3000) * 1e4
    parts = [BitsPerToken() for _ in range(3)]
    for index, nll in enumerate(batches):
        parts[index % 3].update(nll, 100)
    exact = math.fsum(batches.tolist())
    found = add_pairs(torch.stack([part.nll for part in parts]))
    assert abs(math.fsum(found.tolist()) / exact - 1) < 1e-13
    assert abs(float(batches.cumsum(0)[-1]) / exact - 1) > 1e-10, "single precision alone is worse"


def test_sums_that_are_not_finite_stay_so() -> None:
    for wrong in (math.inf, math.nan):
        metric = BitsPerToken()
        for nll in (1.0, wrong, 2.0):
            metric.update(torch.tensor(nll), 1)
        assert str(metric.compute().item()) == str(wrong)


def test_states_add_over_devices() -> None:
    parts = [BitsPerToken(), BitsPerToken()]
    parts[0].update(torch.tensor(5.0), 3)
    parts[1].update(torch.tensor(2.0), 11)
    # what torchmetrics does with the states of all ranks
    whole = BitsPerToken()
    for name, reduce in whole._reductions.items():
        assert reduce is not None
        setattr(whole, name, reduce(torch.stack([getattr(part, name) for part in parts])))
    whole._update_count = 1
    assert whole.compute().item() == pytest.approx(7 / 14 / math.log(2))


def test_the_metric_keeps_no_gradient() -> None:
    nll = torch.tensor(1.0, requires_grad=True)
    metric = BitsPerToken()
    metric.update(nll * 2, 1)
    assert not metric.nll.requires_grad


def test_the_metric_is_nan_after_a_reset() -> None:
    metric = BitsPerToken()
    metric.update(torch.tensor(1.0), 1)
    metric.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of compute before update
        assert math.isnan(metric.compute().item())


def test_perplexity_does_not_overflow() -> None:
    assert perplexity(0.0) == 1
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))
