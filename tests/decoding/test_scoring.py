import math

import pytest
import torch

from attendgen.decoding.scoring import MIN_ATTENTION, BeamScorer


def test_gnmt_length_penalty():
    assert BeamScorer(0.6).length_penalty(1) == 1.0
    assert [BeamScorer(1.0).length_penalty(length) for length in (7, 13)] == [2.0, 3.0]
    assert BeamScorer(2.0).length_penalty(7) == pytest.approx(4.0)
    assert BeamScorer().length_penalty(50) == 1.0


def test_avg_divides_by_the_length():
    assert [BeamScorer(kind="avg").length_penalty(length) for length in (1, 2, 9)] == [1.0, 2.0, 9.0]


def test_gnmt_coverage_penalty():
    attended = torch.tensor([[0.5, 1.7, 0.25], [1.0, 2.0, 3.0]])
    expected = 0.2 * (math.log(0.5) + math.log(0.25))
    assert BeamScorer(coverage=0.2).coverage_penalty(attended, None).tolist() == pytest.approx([expected, 0.0])


def test_coverage_ignores_masked_tokens_and_is_finite_without_attention():
    attended = torch.tensor([[0.5, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    expected = math.log(0.5) + math.log(MIN_ATTENTION)
    assert BeamScorer(coverage=1.0).coverage_penalty(attended, mask).item() == pytest.approx(expected)


@pytest.mark.parametrize("scorer", [BeamScorer(), BeamScorer(0.7), BeamScorer(-0.5), BeamScorer(kind="avg")])
def test_no_continuation_exceeds_the_upper_bound(scorer):
    log_prob, length, longest = -3.0, 4, 9
    bound = scorer.upper_bound(torch.tensor(log_prob), length, longest).item()
    for grown in range(length, longest + 1):
        for worse in (0.0, 0.1, 2.0):
            assert (log_prob - worse) / scorer.length_penalty(grown) <= bound + 1e-6
