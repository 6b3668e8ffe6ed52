import math

import pytest
import torch

from attendgen.decoding.scoring import UNSEEN, BeamScorer


def test_length_penalty_is_wus():
    assert BeamScorer(0.6).penalty(1) == 1.0
    assert [BeamScorer(1.0).penalty(length) for length in (7, 13)] == [2.0, 3.0]
    assert BeamScorer(2.0).penalty(7) == pytest.approx(4.0)
    assert BeamScorer().penalty(50) == 1.0


def test_average_divides_by_the_length():
    assert [BeamScorer(length_penalty_type="avg").penalty(length) for length in (1, 2, 9)] == [1.0, 2.0, 9.0]


def test_coverage_is_wus():
    attended = torch.tensor([[0.5, 1.7, 0.25], [1.0, 2.0, 3.0]])
    expected = 0.2 * (math.log(0.5) + math.log(0.25))
    assert BeamScorer(coverage_penalty=0.2).covered(attended, None).tolist() == pytest.approx([expected, 0.0])


def test_masked_symbols_do_not_count_and_neglected_ones_stay_finite():
    attended = torch.tensor([[0.5, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    expected = math.log(0.5) + math.log(UNSEEN)
    assert BeamScorer(coverage_penalty=1.0).covered(attended, mask).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "ranking", [BeamScorer(), BeamScorer(0.7), BeamScorer(-0.5), BeamScorer(length_penalty_type="avg")]
)
def test_nothing_that_grows_passes_the_bound(ranking):
    log_prob, length, longest = -3.0, 4, 9
    bound = ranking.bound(torch.tensor(log_prob), length, longest).item()
    for grown in range(length, longest + 1):
        for worse in (0.0, 0.1, 2.0):
            assert (log_prob - worse) / ranking.penalty(grown) <= bound + 1e-6


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="exclude each other"):
        BeamScorer(0.6, length_penalty_type="avg")
    with pytest.raises(ValueError, match="coverage -1"):
        BeamScorer(coverage=-1.0)
