import itertools

import pytest
import torch

from attendgen.decoding.constraints import constrain, repeats

SYMBOLS = 5


def completes(history: list[int], token: int, n: int) -> bool:
    """Whether the n-gram that `token` ends stands in `history` already."""
    grown = [*history, token]
    grams = [tuple(grown[i : i + n]) for i in range(len(grown) - n + 1)]
    return bool(grams) and grams[-1] in grams[:-1]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_repeats_are_those_of_every_short_history(n):
    for length in range(n, 6):
        histories = list(itertools.product(range(3), repeat=length))
        found = repeats(torch.tensor(histories), n, SYMBOLS).tolist()
        assert found == [[completes(list(history), token, n) for token in range(SYMBOLS)] for history in histories]


def test_nothing_is_kept_out_without_a_rule():
    log_probs = torch.randn(3, SYMBOLS)
    history = torch.randint(0, SYMBOLS, (3, 4))
    assert constrain(log_probs, history).equal(log_probs)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_stop_waits_for_the_minimum_length(length):
    history = torch.zeros(2, length, dtype=torch.long)
    found = constrain(torch.zeros(2, SYMBOLS), history, suppress_tokens=(0,), stop=2, min_length=3)
    shut = [True, False, length + 1 < 3, False, False]
    assert found.isinf().tolist() == [shut, shut]


def test_rules_give_way_where_they_would_leave_nothing():
    history = torch.tensor([[3, 4], [3, 3]])
    found = constrain(
        torch.zeros(2, SYMBOLS), history, suppress_tokens=(0, 1), stop=2, min_length=9, no_repeat_ngram_size=1
    )
    assert found.isinf().tolist() == [[True, True, False, False, False], [True, True, True, True, False]]
