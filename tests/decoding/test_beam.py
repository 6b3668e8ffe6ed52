import math

import pytest
import torch

from attendgen.decoding.beam import beam_search, length_penalty
from attendgen.decoding.sampling import decode
from attendgen.vocabulary import EOS, PAD, SOS

ALPHAS = [0.0, 0.7, 2.0, -0.5]


def strip(tokens: torch.Tensor) -> list[int]:
    """One hypothesis without the padding after it."""
    return [token for token in tokens.tolist() if token != PAD]


def penalised(score: float, length: int, alpha: float) -> float:
    return score / ((5 + length) / 6) ** alpha


def enumerate_all(table, which: int, max_length: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Every output and its score, best first."""
    found = []

    def grow(tokens: list[int], score: float) -> None:
        if tokens and (tokens[-1] == EOS or len(tokens) == max_length):
            found.append((penalised(score, len(tokens), alpha), tokens))
            return
        following = table.look_up(which, tokens)[2].tolist()
        for token in range(table.symbols):
            if token not in (PAD, SOS):
                grow([*tokens, token], score + following[token])

    grow([], 0.0)
    return sorted(found, reverse=True)


def search_in_lists(table, which: int, max_length: int, width: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Beam search as a book tells it, with no early end."""
    beam, finished = [(0.0, [])], []
    for length in range(1, max_length + 1):
        grown = []
        for score, tokens in beam:
            following = table.look_up(which, tokens)[2].tolist()
            grown += [(score + following[t], [*tokens, t]) for t in range(table.symbols) if t not in (PAD, SOS)]
        grown.sort(reverse=True)
        finished += [
            (penalised(score, length, alpha), tokens)
            for score, tokens in grown[:width]
            if tokens[-1] == EOS or length == max_length
        ]
        beam = [(score, tokens) for score, tokens in grown if tokens[-1] != EOS][:width]
    return sorted(finished, reverse=True)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_beam_as_wide_as_the_space_equals_enumeration(table, alpha):
    best = beam_search(table, *table.start(range(4)), max_length=4, width=4**4, n_best=20, alpha=alpha)
    for which in range(4):
        everything = enumerate_all(table, which, 4, alpha)
        assert len(everything) == 1 + 3 + 3**2 + 3**3 * 4
        for rank, (score, tokens) in enumerate(everything[:20]):
            assert strip(best.tokens[which, rank]) == tokens
            assert best.scores[which, rank].item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_narrow_beam_equals_a_search_in_lists(make_table, alpha, width):
    table = make_table(inputs=30)
    n_best = 2
    best = beam_search(table, *table.start(range(30)), max_length=4, width=width, n_best=n_best, alpha=alpha)
    for which in range(30):
        expected = search_in_lists(table, which, 4, width, alpha)[:n_best]
        assert [strip(tokens) for tokens in best.tokens[which]] == [tokens for _, tokens in expected]
        assert best.scores[which].tolist() == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_width_1_equals_greedy_on_every_table(make_table):
    table = make_table(inputs=200)
    greedy = decode(table, *table.start(range(200)), max_length=4)
    beam = beam_search(table, *table.start(range(200)), max_length=4, width=1)
    assert len({len(strip(tokens[0])) for tokens in greedy.tokens}) == 4
    for left, right in zip(beam, greedy, strict=True):
        torch.testing.assert_close(left, right)


def test_width_1_equals_greedy(case):
    greedy = decode(case.model, *case.start(range(4)), max_length=8)
    beam = beam_search(case.model, *case.start(range(4)), max_length=8, width=1)
    for left, right in zip(beam, greedy, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_a_batch_equals_single_runs(case, alpha):
    options = {"max_length": 8, "width": 3, "n_best": 3, "alpha": alpha}
    batch = beam_search(case.model, *case.start(range(4)), **options)
    outputs = set()
    for row in range(4):
        alone = beam_search(case.model, *case.start([row]), **options)
        length, source = alone.tokens.size(2), alone.attention.size(3)
        torch.testing.assert_close(batch.tokens[row, :, :length], alone.tokens[0])
        torch.testing.assert_close(batch.scores[row], alone.scores[0])
        torch.testing.assert_close(batch.log_probs[row, :, :length], alone.log_probs[0])
        torch.testing.assert_close(batch.attention[row, :, :length, :source], alone.attention[0])
        for part in (batch.tokens, batch.log_probs, batch.attention):
            assert not part[row, :, length:].any()
        outputs.add(tuple(strip(alone.tokens[0, 0])))
    assert len(outputs) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_scores_equal_forced_scoring_of_the_tokens(case, alpha):
    best = beam_search(case.model, *case.start(range(4)), max_length=8, width=3, n_best=3, alpha=alpha)
    for row in range(4):
        for n in range(3):
            tokens = strip(best.tokens[row, n])
            log_probs, attention = case.forced(row, tokens)
            each = log_probs[range(len(tokens)), tokens]
            torch.testing.assert_close(best.log_probs[row, n, : len(tokens)], each)
            torch.testing.assert_close(best.attention[row, n, : len(tokens), : attention.size(1)], attention)
            assert best.scores[row, n].item() == pytest.approx(
                penalised(each.sum().item(), len(tokens), alpha), abs=1e-4
            )
            assert not best.log_probs[row, n, len(tokens) :].any()
            assert not best.attention[row, n, len(tokens) :].any()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_outputs_are_sorted_and_distinct(table, alpha):
    best = beam_search(table, *table.start(range(4)), max_length=4, width=6, n_best=6, alpha=alpha)
    assert (best.scores.diff(dim=1) <= 0).all()
    for outputs in best.tokens:
        assert len({tuple(strip(tokens)) for tokens in outputs}) == 6


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_model_that_never_ends_is_cut(table, alpha):
    table.log_probs[..., EOS] = -torch.inf
    best = beam_search(table, *table.start(range(4)), max_length=4, width=3, n_best=3, alpha=alpha)
    assert best.tokens.shape == (4, 3, 4)
    assert not torch.isin(best.tokens, torch.tensor([PAD, SOS, EOS])).any()
    assert table.calls == 4
    for which in range(4):
        (score, tokens), *_ = search_in_lists(table, which, 4, 3, alpha)
        assert strip(best.tokens[which, 0]) == tokens
        assert best.scores[which, 0].item() == pytest.approx(score, abs=1e-5)


def test_the_search_ends_when_nothing_open_can_win(table):
    table.log_probs[..., EOS] = math.log(0.9)
    table.log_probs[..., EOS + 1 :] = math.log(0.1 / 3)
    best = beam_search(table, *table.start(range(4)), max_length=4, width=3)
    assert best.tokens.tolist() == [[[EOS]]] * 4
    assert table.calls == 1


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_search_goes_on_while_something_open_can_win(make_table, alpha):
    table = make_table(inputs=40)
    for which in range(40):  # one by one: in a batch the slowest input keeps all others open
        best = beam_search(table, *table.start([which]), max_length=4, width=3, alpha=alpha)
        assert strip(best.tokens[0, 0]) == search_in_lists(table, which, 4, 3, alpha)[0][1]
    assert table.calls < 4 * 40


def test_hypotheses_that_do_not_exist_are_empty(table):
    table.log_probs[..., EOS + 1 :] = -torch.inf  # <eos> at once is the only output
    best = beam_search(table, *table.start(range(4)), max_length=4, width=3, n_best=3)
    assert best.tokens.tolist() == [[[EOS], [PAD], [PAD]]] * 4
    assert best.scores[:, 0].isfinite().all()
    assert (best.scores[:, 1:] == -torch.inf).all()
    assert not best.log_probs[:, 1:].any()
    assert not best.attention[:, 1:].any()


def test_forbidden_symbols_never_come(table):
    table.log_probs[..., 3] = 0.0
    best = beam_search(table, *table.start(range(4)), max_length=4, width=4, n_best=4, forbidden=(PAD, SOS, 3))
    assert not (best.tokens == 3).any()
    assert (beam_search(table, *table.start(range(4)), max_length=4, width=4).tokens == 3).any()


def test_length_penalty_is_wus():
    assert length_penalty(1, 0.6).item() == 1.0
    assert length_penalty(torch.tensor([7, 13]), 1.0).tolist() == [2.0, 3.0]
    assert length_penalty(7, 2.0).item() == pytest.approx(4.0)


@pytest.mark.parametrize(("width", "n_best"), [(0, 1), (2, 3), (2, 0)])
def test_impossible_widths_are_refused(table, width, n_best):
    with pytest.raises(ValueError, match=f"n-best {n_best} .* not {width}"):
        beam_search(table, *table.start([0]), max_length=4, width=width, n_best=n_best)
