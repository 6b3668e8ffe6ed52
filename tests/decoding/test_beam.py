import math

import pytest
import torch

from attendgen.decoding.beam import beam_search
from attendgen.decoding.processors import Constraints
from attendgen.decoding.sampling import greedy_or_sample
from attendgen.decoding.scoring import BeamScorer
from attendgen.utils.special_tokens import EOS, PAD, SOS

EXPONENTS = [0.0, 0.7, 2.0, -0.5]
SCORERS = [
    *map(BeamScorer, EXPONENTS),
    BeamScorer(kind="avg"),
    BeamScorer(coverage=0.5),
    BeamScorer(0.7, coverage=0.2),
]
RULES = [
    {"min_length": 3},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 2, "min_length": 3},
]


def strip(tokens: torch.Tensor) -> list[int]:
    """Return one hypothesis without the padding after it."""
    return [token for token in tokens.tolist() if token != PAD]


def penalize(score: float, length: int, exponent: float) -> float:
    return score / ((5 + length) / 6) ** exponent


def score_exactly(table, which: int, tokens: list[int], scorer: BeamScorer) -> float:
    """Return s(Y, X), from every token's log-probability and attention weights."""
    log_probs, alphas, _ = table.look_up(which, tokens)
    score = sum(log_probs) / (len(tokens) if scorer.kind == "avg" else ((5 + len(tokens)) / 6) ** scorer.exponent)
    if scorer.coverage:
        score += scorer.coverage * sum(math.log(min(sum(column), 1.0)) for column in zip(*alphas, strict=True))
    return score


def may_follow(tokens: list[int], token: int, min_length: int = 1, no_repeat_ngram_size: int = 0) -> bool:
    if token in (PAD, SOS) or (token == EOS and len(tokens) + 1 < min_length):
        return False
    grown = [*tokens, token]
    grams = (
        [tuple(grown[i : i + no_repeat_ngram_size]) for i in range(len(grown) - no_repeat_ngram_size + 1)]
        if no_repeat_ngram_size
        else []
    )
    return len(set(grams)) == len(grams)


def enumerate_all(
    table, which: int, max_length: int, scorer: BeamScorer, **rules: int
) -> list[tuple[float, list[int]]]:
    """Return every output and its score, best first."""
    found = []

    def grow(tokens: list[int]) -> None:
        if tokens and (tokens[-1] == EOS or len(tokens) == max_length):
            found.append((score_exactly(table, which, tokens, scorer), tokens))
            return
        for token in range(table.vocab_size):
            if may_follow(tokens, token, **rules):
                grow([*tokens, token])

    grow([])
    return sorted(found, reverse=True)


def search_in_lists(
    table, which: int, max_length: int, width: int, scorer: BeamScorer, **rules: int
) -> list[tuple[float, list[int]]]:
    """Return the outputs of a textbook beam search, which never ends early, best first."""
    beam, finished = [[]], []
    for length in range(1, max_length + 1):
        grown = [[*tokens, t] for tokens in beam for t in range(table.vocab_size) if may_follow(tokens, t, **rules)]
        scored = sorted(((score_exactly(table, which, tokens, scorer), tokens) for tokens in grown), reverse=True)
        finished += [pair for pair in scored[:width] if pair[1][-1] == EOS or length == max_length]
        beam = [tokens for _, tokens in scored if tokens[-1] != EOS][:width]
    return sorted(finished, reverse=True)


@pytest.mark.parametrize("rules", [{}, *RULES], ids=str)
@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_beam_as_wide_as_the_space_equals_enumeration(table, scorer, rules):
    best = beam_search(
        table,
        *table.encode(range(4)),
        max_length=4,
        width=4**4,
        n_best=10,
        scorer=scorer,
        processors=[Constraints(**rules)],
    )
    for which in range(4):
        everything = enumerate_all(table, which, 4, scorer, **rules)
        assert rules or len(everything) == 1 + 3 + 3**2 + 3**3 * 4
        for rank, (score, tokens) in enumerate(everything[:10]):
            assert strip(best.tokens[which, rank]) == tokens
            assert best.scores[which, rank].item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("rules", [{}, *RULES], ids=str)
@pytest.mark.parametrize("scorer", SCORERS, ids=str)
@pytest.mark.parametrize("width", [2, 5])
def test_narrow_beam_equals_search_in_lists(make_table, scorer, width, rules):
    table = make_table(inputs=20)
    n_best = 2
    best = beam_search(
        table,
        *table.encode(range(20)),
        max_length=4,
        width=width,
        n_best=n_best,
        scorer=scorer,
        processors=[Constraints(**rules)],
    )
    for which in range(20):
        expected = search_in_lists(table, which, 4, width, scorer, **rules)[:n_best]
        assert [strip(tokens) for tokens in best.tokens[which] if tokens.any()] == [tokens for _, tokens in expected]
        found = [score for score in best.scores[which].tolist() if score > -math.inf]
        assert found == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_width_1_equals_greedy_on_every_table(make_table):
    table = make_table(inputs=200)
    greedy = greedy_or_sample(table, *table.encode(range(200)), max_length=4)
    beam = beam_search(table, *table.encode(range(200)), max_length=4, width=1)
    assert len({len(strip(tokens[0])) for tokens in greedy.tokens}) == 4
    for left, right in zip(beam, greedy, strict=True):
        torch.testing.assert_close(left, right)


def test_width_1_equals_greedy(case):
    greedy = greedy_or_sample(case.model, *case.encode(range(4)), max_length=8)
    beam = beam_search(case.model, *case.encode(range(4)), max_length=8, width=1)
    for left, right in zip(beam, greedy, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("scorer", [BeamScorer(), BeamScorer(0.7), BeamScorer(coverage=0.5)], ids=str)
@pytest.mark.parametrize("rules", [{}, {"min_length": 3, "no_repeat_ngram_size": 2}], ids=str)
def test_batch_equals_single_inputs(case, scorer, rules):
    options = {"max_length": 8, "width": 3, "n_best": 3, "scorer": scorer, "processors": [Constraints(**rules)]}
    batch = beam_search(case.model, *case.encode(range(4)), **options)
    outputs = set()
    for row in range(4):
        alone = beam_search(case.model, *case.encode([row]), **options)
        length, source = alone.tokens.size(2), alone.attention.size(3)
        torch.testing.assert_close(batch.tokens[row, :, :length], alone.tokens[0])
        torch.testing.assert_close(batch.scores[row], alone.scores[0])
        torch.testing.assert_close(batch.log_probs[row, :, :length], alone.log_probs[0])
        torch.testing.assert_close(batch.attention[row, :, :length, :source], alone.attention[0])
        for part in (batch.tokens, batch.log_probs, batch.attention):
            assert not part[row, :, length:].any()
        outputs.add(tuple(strip(alone.tokens[0, 0])))
    assert len(outputs) > 1


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_scores_equal_forced_scoring_of_the_tokens(case, exponent):
    best = beam_search(case.model, *case.encode(range(4)), max_length=8, width=3, n_best=3, scorer=BeamScorer(exponent))
    for row in range(4):
        for n in range(3):
            tokens = strip(best.tokens[row, n])
            log_probs, attention = case.forced(row, tokens)
            each = log_probs[range(len(tokens)), tokens]
            torch.testing.assert_close(best.log_probs[row, n, : len(tokens)], each)
            torch.testing.assert_close(best.attention[row, n, : len(tokens), : attention.size(1)], attention)
            assert best.scores[row, n].item() == pytest.approx(
                penalize(each.sum().item(), len(tokens), exponent), abs=1e-4
            )
            assert not best.log_probs[row, n, len(tokens) :].any()
            assert not best.attention[row, n, len(tokens) :].any()


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_outputs_are_sorted_and_distinct(table, exponent):
    best = beam_search(table, *table.encode(range(4)), max_length=4, width=6, n_best=6, scorer=BeamScorer(exponent))
    assert (best.scores.diff(dim=1) <= 0).all()
    for outputs in best.tokens:
        assert len({tuple(strip(tokens)) for tokens in outputs}) == 6


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_outputs_without_eos_end_at_max_length(table, exponent):
    table.log_probs[..., EOS] = -torch.inf
    best = beam_search(table, *table.encode(range(4)), max_length=4, width=3, n_best=3, scorer=BeamScorer(exponent))
    assert best.tokens.shape == (4, 3, 4)
    assert not torch.isin(best.tokens, torch.tensor([PAD, SOS, EOS])).any()
    assert table.calls == 4
    for which in range(4):
        (score, tokens), *_ = search_in_lists(table, which, 4, 3, BeamScorer(exponent))
        assert strip(best.tokens[which, 0]) == tokens
        assert best.scores[which, 0].item() == pytest.approx(score, abs=1e-5)


def test_search_ends_when_no_open_hypothesis_can_win(table):
    table.log_probs[..., EOS] = math.log(0.9)
    table.log_probs[..., EOS + 1 :] = math.log(0.1 / 3)
    best = beam_search(table, *table.encode(range(4)), max_length=4, width=3)
    assert best.tokens.tolist() == [[[EOS]]] * 4
    assert table.calls == 1


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_search_continues_while_an_open_hypothesis_can_win(make_table, exponent):
    table = make_table(inputs=40)
    for which in range(40):  # one by one: in a batch the slowest input decides when the search ends
        best = beam_search(table, *table.encode([which]), max_length=4, width=3, scorer=BeamScorer(exponent))
        assert strip(best.tokens[0, 0]) == search_in_lists(table, which, 4, 3, BeamScorer(exponent))[0][1]
    assert table.calls < 4 * 40


def test_missing_hypotheses_are_padding_with_a_score_of_minus_infinity(table):
    table.log_probs[..., EOS + 1 :] = -torch.inf  # <eos> at once is the only output
    best = beam_search(table, *table.encode(range(4)), max_length=4, width=3, n_best=3)
    assert best.tokens.tolist() == [[[EOS], [PAD], [PAD]]] * 4
    assert best.scores[:, 0].isfinite().all()
    assert (best.scores[:, 1:] == -torch.inf).all()
    assert not best.log_probs[:, 1:].any()
    assert not best.attention[:, 1:].any()


def test_suppressed_tokens_are_never_chosen(table):
    table.log_probs[..., 3] = 0.0
    best = beam_search(
        table, *table.encode(range(4)), max_length=4, width=4, n_best=4, processors=[Constraints((PAD, SOS, 3))]
    )
    assert not (best.tokens == 3).any()
    assert (beam_search(table, *table.encode(range(4)), max_length=4, width=4).tokens == 3).any()


def test_finished_inputs_leave_the_batch(make_table):
    table = make_table(inputs=40)
    table.log_probs[:30, ..., EOS] = math.log(0.9)  # thirty inputs that end at once
    table.log_probs[:30, ..., EOS + 1 :] = math.log(0.1 / 3)
    rows = []
    step = table.step
    table.step = lambda tokens, state, memory: (rows.append(len(tokens)), step(tokens, state, memory))[1]
    beam_search(table, *table.encode(range(40)), max_length=4, width=3)
    assert rows[0] == 40
    assert max(rows[1:]) <= 10 * 3


@pytest.mark.parametrize(("width", "n_best"), [(0, 1), (2, 3), (2, 0)])
def test_widths_below_n_best_are_refused(table, width, n_best):
    with pytest.raises(ValueError, match=f"n_best {n_best}: .* {width}"):
        beam_search(table, *table.encode([0]), max_length=4, width=width, n_best=n_best)


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
@pytest.mark.parametrize("rules", [{}, {"min_length": 3, "no_repeat_ngram_size": 2}], ids=str)
def test_dropping_finished_inputs_changes_no_output(make_table, scorer, rules):
    table = make_table(inputs=40)
    table.log_probs[::2, ..., EOS] += 3.0
    table.log_probs = table.log_probs.log_softmax(dim=-1)
    counts = {True: 0, False: 0}
    step, found = table.step, {}
    for drop in counts:

        def count_rows(tokens, state, memory, drop=drop):
            counts[drop] += len(tokens)
            return step(tokens, state, memory)

        table.step = count_rows
        options = {
            "width": 3,
            "n_best": 2,
            "scorer": scorer,
            "drop_finished": drop,
            "processors": [Constraints(**rules)],
        }
        found[drop] = beam_search(table, *table.encode(range(40)), max_length=4, **options)
    assert rules or counts[True] < counts[False]
    for left, right in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(left, right)


def test_dropping_finished_inputs_changes_no_output_of_real_models(case):
    options = {"max_length": 8, "width": 3, "n_best": 3, "scorer": BeamScorer(0.7, coverage=0.2)}
    fast, plain = (
        beam_search(case.model, *case.encode([0, 1, 2, 3, 1, 0]), **options, drop_finished=drop)
        for drop in (True, False)
    )
    for left, right in zip(fast, plain, strict=True):
        torch.testing.assert_close(left, right)
